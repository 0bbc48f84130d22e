//! Compiled plugins in a folder on disk, so that a plugin is compiled once, not at each start.
//!
//! Compiled code runs outside the sandbox, so nothing is loaded that anybody else may have written:
//! the folder, everything above it and each file in it are checked as sshd checks those of its keys. A
//! file is named by what it was made of, the component and everything about the engine that the code
//! depends on, and begins with a digest of itself: what is damaged is compiled anew.
//!
//! wasmtime has such a cache of its own, which looks neither at who may write its files nor at a digest
//! of them; this is why Larder has one.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use tracing::{debug, warn};
use wasmtime::component::Component;

use crate::clock::Clock;

/// All files together, in octets; what was not used for longest leaves first. A plugin takes some
/// four times its own size.
const CAPACITY: u64 = 512 << 20;

/// One file. Plugins have 32 MiB at most.
const LARGEST: u64 = 256 << 20;

/// What a file begins with, and the version of what follows: a digest, and the code.
const MAGIC: &[u8; 16] = b"larder compiled1";
const DIGEST: usize = 32;

/// What our files are called after their key. Others are left alone.
const ENDING: &str = ".compiled";
/// While it is being written.
const UNFINISHED: &str = ".unfinished";

/// The permission to write for the group and for everybody.
const OTHERS_WRITE: u32 = 0o022;
/// Of a folder: only its owner may take a file out of it or rename it, however many may write.
const STICKY: u32 = 0o1000;

/// A folder that nobody else may write to.
pub(super) struct Compiled {
    folder: PathBuf,
    user: u32,
    capacity: u64,
    /// Whether it was said that a file could not be written.
    told: AtomicBool,
}

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrusted {
    /// It cannot be made, or not be looked at.
    #[error("{0}")]
    Unusable(#[from] io::Error),
    /// It belongs to somebody else.
    #[error("`{path}` belongs to user {owner}, not to {user}")]
    Owner {
        /// The folder, or one above it.
        path: String,
        /// Whose it is.
        owner: u32,
        /// Who this process is.
        user: u32,
    },
    /// Somebody else may put files into it.
    #[error("others may write to `{path}` (mode {mode:o})")]
    Writable {
        /// The folder, or one above it.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// A file is in its place.
    #[error("`{0}` is not a folder")]
    NoFolder(String),
}

impl Compiled {
    /// Makes the folder, if it is not there, and checks it.
    pub(super) fn open(folder: &Path) -> Result<Self, Untrusted> {
        Self::with_capacity(folder, CAPACITY)
    }

    fn with_capacity(folder: &Path, capacity: u64) -> Result<Self, Untrusted> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Untrusted::NoFolder(folder.display().to_string()),
            _ => error.into(),
        })?;
        // Links are resolved once, and what they have led to is what is checked and used from here on.
        let folder = folder.canonicalize()?;
        let user = rustix::process::geteuid().as_raw();
        for (height, path) in folder.ancestors().enumerate() {
            check(path, &fs::metadata(path)?, user, height > 0)?;
        }
        Ok(Self { folder, user, capacity, told: AtomicBool::new(false) })
    }

    /// The component of these octets: from its file, or compiled, and kept in a file for the next
    /// time. The error is the compiler's.
    pub(super) fn component(
        &self,
        engine: &wasmtime::Engine,
        octets: &[u8],
    ) -> wasmtime::Result<Component> {
        let key = key(engine, octets);
        let path = self.folder.join(format!("{}{ENDING}", key.to_hex()));
        match self.load(engine, &key, &path) {
            Ok(component) => return Ok(component),
            Err(Unfit::Missing) => {}
            Err(unfit) => debug!(file = %path.display(), %unfit, "compiled anew"),
        }
        let component = Component::new(engine, octets)?;
        // Without the file the next start takes longer, and that is all.
        let kept = component.serialize().map_err(io::Error::other);
        let kept = kept.and_then(|code| self.keep(&key, &path, &code));
        if let Err(error) = kept {
            self.tell(&path, &error);
        }
        Ok(component)
    }

    /// Says once that the folder takes no files: of ten plugins an operator has one thing to do.
    fn tell(&self, path: &Path, error: &io::Error) {
        if self.told.swap(true, Ordering::Relaxed) {
            debug!(file = %path.display(), %error, "compiled code is not kept");
            return;
        }
        warn!(
            folder = %self.folder.display(), %error,
            "compiled plugins are not kept, each start takes longer: make room in the folder and let \
             its user write to it, or set `[server] compiled_cache` to another, or to \"off\""
        );
    }

    fn load(
        &self,
        engine: &wasmtime::Engine,
        key: &blake3::Hash,
        path: &Path,
    ) -> Result<Component, Unfit> {
        let octets = self.read(path)?;
        let (head, code) = octets.split_at_checked(MAGIC.len() + DIGEST).ok_or(Unfit::Damaged)?;
        let (magic, told) = head.split_at(MAGIC.len());
        if magic != MAGIC || told != digest(key, code).as_bytes() {
            return Err(Unfit::Damaged);
        }
        // SAFETY: `deserialize` wants what `serialize` has given, and from whom it is trusted to be.
        // The file was opened without following a link, is ours, and nobody else may write to it or to
        // any folder above it, or put another in its place. So it was written by `keep` of this or an
        // earlier process of ours: not by an attacker who could not do all that we can. That nothing
        // has happened to it since, and that it is of this component and of an engine that is
        // compatible with this one, the digest says, which covers the key.
        #[expect(unsafe_code, reason = "the only way to load compiled code; see above")]
        let component = unsafe { Component::deserialize(engine, code) };
        component.map_err(|error| Unfit::Other(format!("{error:#}")))
    }

    /// The file as it is, if nobody else can have written it.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Unfit> {
        // Not through a link, and without waiting for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Err(Unfit::Missing),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let metadata = file.metadata()?;
        let is_ours = metadata.uid() == self.user && metadata.mode() & OTHERS_WRITE == 0;
        if !metadata.is_file() || !is_ours {
            return Err(Unfit::NotOurs);
        }
        let mut octets = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        (&file).take(LARGEST).read_to_end(&mut octets)?;
        // So that it is not the first to leave. If that fails, it may be.
        drop(file.set_modified(Clock::System.now()));
        Ok(octets)
    }

    /// Puts a file into place in one step: another process sees none, or all of it.
    fn keep(&self, key: &blake3::Hash, path: &Path, code: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}{UNFINISHED}", key.to_hex(), std::process::id());
        let unfinished = self.folder.join(name);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let written = written.and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(digest(key, code).as_bytes())?;
            file.write_all(code)
        });
        let kept = written.and_then(|()| fs::rename(&unfinished, path));
        if kept.is_err() {
            // What has failed is told already.
            drop(fs::remove_file(&unfinished));
        }
        kept.and_then(|()| self.make_room(path))
    }

    /// Removes what was not used for longest, until there is room for all others. `newest` stays.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.ends_with(ENDING) || name.ends_with(UNFINISHED));
            // One that another process has removed meanwhile takes no room.
            if let Ok(metadata) = entry.metadata()
                && is_ours
            {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files.iter().filter(|(.., path)| path != newest) {
            if total <= self.capacity {
                break;
            }
            match fs::remove_file(path) {
                // By another process, to the same end.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            total -= length;
        }
        Ok(())
    }
}

/// Whether this folder, or one `above` it, is safe from everybody else.
fn check(path: &Path, metadata: &Metadata, user: u32, above: bool) -> Result<(), Untrusted> {
    let told = || path.display().to_string();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() {
        return Err(Untrusted::NoFolder(told()));
    }
    // Root can do anything anyway.
    if owner != user && !(above && owner == 0) {
        return Err(Untrusted::Owner { path: told(), owner, user });
    }
    // sshd refuses sticky folders, too. `/tmp` is one, and what lies below it is as safe as elsewhere
    // if it is ours and is checked by itself.
    if mode & OTHERS_WRITE != 0 && !(above && mode & STICKY != 0) {
        return Err(Untrusted::Writable { path: told(), mode });
    }
    Ok(())
}

/// Why a file is not loaded.
enum Unfit {
    Missing,
    Damaged,
    NotOurs,
    Other(String),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it is not there",
            Self::Damaged => "it is damaged",
            Self::NotOurs => "it is no file, belongs to another user, or others may write to it",
            Self::Other(why) => why,
        })
    }
}

/// What a file is found by: the component, and what its code depends on.
fn key(engine: &wasmtime::Engine, octets: &[u8]) -> blake3::Hash {
    /// Takes in what is hashed as it is.
    struct Taking(blake3::Hasher);
    impl Hasher for Taking {
        fn write(&mut self, octets: &[u8]) {
            self.0.update(&(octets.len() as u64).to_le_bytes());
            self.0.update(octets);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut taking = Taking(blake3::Hasher::new());
    taking.write(env!("CARGO_PKG_VERSION").as_bytes());
    engine.precompile_compatibility_hash().hash(&mut taking);
    taking.write(octets);
    taking.0.finalize()
}

fn digest(key: &blake3::Hash, code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(code);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::Engine;
    use super::*;

    const WHAT: &str =
        "(component (core module (func (export \"f\") (result i32) (i32.const 42))))";

    fn component(number: usize) -> Vec<u8> {
        wat::parse_str(WHAT.replace("42", &number.to_string())).unwrap()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = folder.read_dir().unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Whether it comes from a file.
    fn is_loaded(compiled: &Compiled, engine: &Engine, octets: &[u8]) -> bool {
        let key = key(engine.wasmtime(), octets);
        let path = compiled.folder.join(format!("{}{ENDING}", key.to_hex()));
        compiled.load(engine.wasmtime(), &key, &path).is_ok()
    }

    #[test]
    fn what_was_compiled_is_loaded_by_the_next_engine() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("deep/er");
        let octets = component(1);
        let first = Engine::new(1).unwrap();
        let compiled = Compiled::open(&folder).unwrap();
        assert!(!is_loaded(&compiled, &first, &octets));
        compiled.component(first.wasmtime(), &octets).unwrap();
        assert!(is_loaded(&compiled, &first, &octets));
        assert!(is_loaded(&Compiled::open(&folder).unwrap(), &Engine::new(1).unwrap(), &octets));
        assert!(!is_loaded(&compiled, &first, &component(2)));
        // Compiled in another way, it has another name.
        assert!(!is_loaded(&compiled, &Engine::without_pool().unwrap(), &octets));
        assert_eq!(files(&folder).len(), 1);
        assert_eq!(fs::metadata(&files(&folder)[0]).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn damaged_files_are_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(1).unwrap();
        let compiled = Compiled::open(folder.path()).unwrap();
        let octets = component(1);
        compiled.component(engine.wasmtime(), &octets).unwrap();
        let file = files(folder.path()).remove(0);
        let good = fs::read(&file).unwrap();
        let flipped = |at: usize| {
            let mut octets = good.clone();
            octets[at] ^= 1;
            octets
        };
        let steps = (0..good.len()).step_by(good.len() / 40);
        let mut damaged: Vec<Vec<u8>> = steps.clone().map(flipped).collect();
        damaged.extend(steps.map(|at| good[..at].to_vec()));
        damaged.push(good[..good.len() - 1].to_vec());
        damaged.push([&good[..], b"x"].concat());
        damaged.push(b"not at all".to_vec());
        for damaged in damaged {
            fs::write(&file, damaged).unwrap();
            assert!(!is_loaded(&compiled, &engine, &octets));
        }
        compiled.component(engine.wasmtime(), &octets).unwrap();
        assert!(is_loaded(&compiled, &engine, &octets));

        // Under the name of another component, it is none of it.
        let other = component(2);
        let name = format!("{}{ENDING}", key(engine.wasmtime(), &other).to_hex());
        fs::copy(&file, folder.path().join(name)).unwrap();
        assert!(!is_loaded(&compiled, &engine, &other));
    }

    #[test]
    fn files_that_others_may_have_written_are_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(1).unwrap();
        let compiled = Compiled::open(folder.path()).unwrap();
        let octets = component(1);
        compiled.component(engine.wasmtime(), &octets).unwrap();
        let file = files(folder.path()).remove(0);
        for (mode, loads) in [(0o620, false), (0o602, false), (0o644, true), (0o600, true)] {
            set_mode(&file, mode);
            assert_eq!(is_loaded(&compiled, &engine, &octets), loads, "mode {mode:o}");
        }
        // A link, even to what is good, and a folder.
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        assert!(!is_loaded(&compiled, &engine, &octets));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(!is_loaded(&compiled, &engine, &octets));
        // Nor does it stop a policy from being loaded.
        compiled.component(engine.wasmtime(), &octets).unwrap();
    }

    #[test]
    fn folders_that_others_may_write_to_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (above, inner) = (folder.path().join("above"), folder.path().join("above/inner"));
        fs::create_dir_all(&inner).unwrap();
        let refused = |path: &Path| Compiled::open(path).err().map(|error| error.to_string());
        let told = |path: &Path, mode: &str| {
            let path = path.canonicalize().unwrap();
            Some(format!("others may write to `{}` (mode {mode})", path.display()))
        };
        for (path, mode) in [(&inner, 0o770), (&inner, 0o707), (&inner, 0o1777), (&above, 0o775)] {
            set_mode(path, mode);
            assert_eq!(refused(&inner), told(path, &format!("{mode:o}")));
            set_mode(path, 0o755);
            assert_eq!(refused(&inner), None);
        }
        // As `/tmp` is.
        set_mode(&above, 0o1777);
        assert_eq!(refused(&inner), None);

        // A link counts as what it leads to.
        let link = folder.path().join("link");
        symlink(&inner, &link).unwrap();
        assert_eq!(refused(&link), None);
        set_mode(&inner, 0o777);
        assert_eq!(refused(&link), told(&inner, "777"));

        fs::write(folder.path().join("file"), "").unwrap();
        let file = folder.path().join("file");
        assert_eq!(refused(&file), Some(format!("`{}` is not a folder", file.display())));
        assert!(refused(&folder.path().join("file/below")).is_some());
        // `/proc/1` belongs to root and is no place for files.
        assert!(refused(Path::new("/proc/1/compiled")).is_some());
    }

    #[test]
    fn folders_of_other_users_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        let user = metadata.uid();
        assert!(check(folder.path(), &metadata, user, false).is_ok());
        let refused = check(folder.path(), &metadata, user + 1, false).unwrap_err();
        assert!(matches!(refused, Untrusted::Owner { .. }), "{refused}");
        // Above it, root's are as good as our own.
        let root = fs::metadata("/").unwrap();
        assert!(check(Path::new("/"), &root, user + 1, true).is_ok());
        assert!(check(Path::new("/"), &root, root.uid() + 1, false).is_err());
    }

    #[test]
    fn what_was_not_used_for_longest_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(1).unwrap();
        fs::write(folder.path().join("notes"), vec![0; 1 << 20]).unwrap();
        let octets: Vec<_> = (0..4).map(component).collect();
        let compiled = Compiled::open(folder.path()).unwrap();
        compiled.component(engine.wasmtime(), &octets[0]).unwrap();
        let one = fs::metadata(&files(folder.path())[0]).unwrap().len();
        let length = files(folder.path()).iter().map(|it| fs::metadata(it).unwrap().len()).min();
        assert!(length.unwrap() <= one);
        let compiled = Compiled::with_capacity(folder.path(), 3 * length.unwrap() + 64).unwrap();
        for octets in &octets[1..3] {
            compiled.component(engine.wasmtime(), octets).unwrap();
        }
        assert!(is_loaded(&compiled, &engine, &octets[0]), "it was used now");
        compiled.component(engine.wasmtime(), &octets[3]).unwrap();
        let loaded: Vec<_> = octets.iter().map(|it| is_loaded(&compiled, &engine, it)).collect();
        assert_eq!(loaded, [true, false, true, true]);
        assert!(folder.path().join("notes").exists());
    }
}
