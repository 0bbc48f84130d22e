//! Names that stand for other addresses as a test goes on, as the system's resolver tells them: by a
//! hosts file of the test's own, with the `nss_wrapper` of the Samba project before the C library.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A hosts file for one process.
pub(crate) struct Names {
    folder: TempDir,
    changes: AtomicU64,
}

impl Names {
    /// With these lines, each an address and a name.
    pub(crate) fn new(lines: &[&str]) -> Self {
        let names = Self { folder: tempfile::tempdir().unwrap(), changes: AtomicU64::new(0) };
        names.are(lines);
        names
    }

    /// With these lines from now on.
    pub(crate) fn are(&self, lines: &[&str]) {
        let new = self.folder.path().join("new");
        fs::write(&new, lines.join("\n") + "\n").unwrap();
        // It is read again when its time is another, by the second.
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        let time = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 + change);
        File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// What a process needs in its environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let file = self.file().display().to_string();
        [("LD_PRELOAD", wrapper().display().to_string()), ("NSS_WRAPPER_HOSTS", file)]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }
}

/// Where Debian has it for this machine, or others.
fn wrapper() -> PathBuf {
    const FILE: &str = "libnss_wrapper.so";
    let architecture = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = [&architecture, "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let mut files = folders.iter().map(|folder| Path::new(folder).join(FILE));
    files.find(|file| file.exists()).expect("`libnss_wrapper.so` must be installed: run tests/run")
}
