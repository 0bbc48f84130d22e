//! Frames that are too large for the database: a file each, named after its key.
//!
//! A file is written under another name and renamed, so it is whole or not there; it is not forced to
//! the disk, so after a failure of power it may be neither. The frame's own sum tells.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::stored::CacheKey;

/// More than any frame: what is larger was not written here.
const MOST: u64 = 64 << 20;

/// The folder, with one of its own for each first octet of a key.
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// In this folder, which is made if it is not there.
    pub(super) fn in_folder(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Writes a frame, in the place of the last one under this key. One at a time.
    pub(super) fn write(&self, key: &CacheKey, frame: &[u8]) -> io::Result<()> {
        let unfinished = self.folder.join("unfinished");
        fs::write(&unfinished, frame)?;
        let path = self.path(key);
        match fs::rename(&unfinished, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
                fs::rename(&unfinished, &path)
            }
            renamed => renamed,
        }
    }

    /// The frame under this key; none if there is no such file.
    pub(super) fn read(&self, key: &CacheKey) -> io::Result<Option<Bytes>> {
        let mut file = match File::open(self.path(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        let Some(length) = usize::try_from(length).ok().filter(|_| length <= MOST) else {
            return Ok(None);
        };
        let mut frame = vec![0; length];
        match file.read_exact(&mut frame) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(|()| Some(frame.into())),
        }
    }

    /// Removes a frame. One that cannot be removed is an orphan from then on.
    pub(super) fn remove(&self, key: &CacheKey) {
        drop(fs::remove_file(self.path(key)));
    }

    /// Removes every file whose key begins with this octet and is not `wanted`. Answers how many.
    pub(super) fn remove_orphans<E>(
        &self,
        first: u8,
        mut wanted: impl FnMut(&CacheKey) -> Result<bool, E>,
    ) -> Result<usize, E> {
        let Ok(files) = fs::read_dir(self.below(first)) else { return Ok(0) };
        let mut removed = 0;
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            let is_wanted = match key(&path) {
                Some(key) => wanted(&key)?,
                None => false,
            };
            removed += usize::from(!is_wanted && fs::remove_file(path).is_ok());
        }
        Ok(removed)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        let [first, ..] = key.0;
        self.below(first).join(key.to_string())
    }

    fn below(&self, first: u8) -> PathBuf {
        self.folder.join(format!("{first:02x}"))
    }
}

/// The key that a file is named after.
fn key(path: &Path) -> Option<CacheKey> {
    let name = path.file_name()?.to_str()?;
    let mut key = CacheKey([0; 32]);
    for (place, octet) in key.0.iter_mut().enumerate() {
        *octet = u8::from_str_radix(name.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    (key.to_string() == name).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_file_is_found_by_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path().join("large")).unwrap();
        let (one, other) = (CacheKey([0x0a; 32]), CacheKey([0xff; 32]));
        files.write(&one, b"1").unwrap();
        files.write(&other, b"other").unwrap();
        files.write(&one, b"one").unwrap();
        assert_eq!(files.read(&one).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(files.read(&other).unwrap().as_deref(), Some(&b"other"[..]));
        assert_eq!(files.read(&CacheKey([1; 32])).unwrap(), None);
        assert_eq!(key(&files.path(&one)), Some(one));
        files.remove(&one);
        assert_eq!(files.read(&one).unwrap(), None);
    }

    #[test]
    fn what_nobody_wants_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::in_folder(folder.path().to_owned()).unwrap();
        let mut beside = CacheKey([7; 32]);
        beside.0[31] = 8;
        for key in [CacheKey([7; 32]), beside, CacheKey([8; 32])] {
            files.write(&key, b"frame").unwrap();
        }
        fs::write(folder.path().join("07/of-another-kind"), "").unwrap();
        let wanted = |key: &CacheKey| Ok::<_, Infallible>(*key == beside);
        assert_eq!(files.remove_orphans(7, wanted), Ok(2));
        assert_eq!(files.remove_orphans(9, wanted), Ok(0));
        assert!(files.read(&CacheKey([7; 32])).unwrap().is_none());
        assert!(files.read(&beside).unwrap().is_some());
        assert!(files.read(&CacheKey([8; 32])).unwrap().is_some());
    }
}
