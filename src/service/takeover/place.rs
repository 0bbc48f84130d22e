//! The socket in the file system: nobody but this user may reach it or put another in its place.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::{Trouble, is_believed};

/// A socket that listens. Dropping it removes it from its path, unless another is there by then.
pub(super) struct Place {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Where it is until it takes the other's place.
    aside: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl Place {
    /// Listens, beside the path.
    pub(super) fn beside(path: &Path) -> Result<Self, Trouble> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let metadata = fs::metadata(folder);
        let metadata = metadata.map_err(Trouble::at(path, "lies in a folder that is not there"))?;
        // Whoever may write there could have a socket of his own in this place.
        if metadata.mode() & 0o022 != 0 || !is_believed(metadata.uid()) {
            let what = "lies in a folder where others may write, too";
            return Err(Trouble { path: path.to_owned(), what, source: None });
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let aside = PathBuf::from(aside);
        let listening = || {
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&aside)?;
            fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
            Ok((listener, identity(&aside)?))
        };
        let (listener, identity) =
            listening().map_err(Trouble::at(path, "cannot be listened on"))?;
        Ok(Self { listener, path: path.to_owned(), aside, identity })
    }

    /// Takes its place. Whoever comes to the path from now on comes here.
    pub(super) fn take(&self) -> io::Result<()> {
        fs::rename(&self.aside, &self.path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in [&self.aside, &self.path] {
            if identity(path).is_ok_and(|found| found == self.identity) {
                // It is in nobody's way.
                drop(fs::remove_file(path));
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mode = |mode| fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        for open in [0o777, 0o1777, 0o770, 0o707] {
            mode(open);
            let told = Place::beside(&path).err().unwrap().to_string();
            assert!(told.ends_with("lies in a folder where others may write, too"), "{told}");
        }
        mode(0o755);
        let place = Place::beside(&path).unwrap();
        assert!(!path.exists());
        place.take().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // Another takes its place, and it leaves that alone.
        let other = UnixListener::bind(folder.path().join("t")).unwrap();
        fs::rename(folder.path().join("t"), &path).unwrap();
        drop(place);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();

        let place = Place::beside(&path).unwrap();
        place.take().unwrap();
        drop(place);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Place::beside(&folder.path().join("none/s")).is_err());
    }
}
