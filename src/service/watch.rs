//! The files that a configuration was read from, and whether they have changed since.
//!
//! They are looked at, not listened to: a look says the same of a file that was renamed into place,
//! of one that was written over, and of a link that points elsewhere, on every file system.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::Listing;

/// Files, each as it was just before it was read, and names of files, with those that there were.
#[derive(Default)]
pub(super) struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
    listings: Vec<(Listing, Listed)>,
    /// What the last look found, if that was something else.
    found: Option<(Vec<Option<Stamp>>, Vec<Listed>)>,
}

/// None where the folder cannot be read.
type Listed = Option<Vec<PathBuf>>;

/// What tells that a file is another, or has other content. None for one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    device: u64,
    inode: u64,
}

impl Stamp {
    /// Of the file behind all links.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Watched {
    /// Watches this file, too. To be called before it is read: then what is written meanwhile is a
    /// change.
    pub(super) fn add(&mut self, path: &Path) {
        if self.files.iter().all(|(known, _)| known != path) {
            self.files.push((path.to_owned(), Stamp::of(path)));
        }
    }

    /// Watches which of these files there are.
    pub(super) fn add_listing(&mut self, listing: &Listing) {
        self.listings.push((listing.clone(), listing.files().ok()));
    }

    /// Looks at all files. Whether they have changed, and are as they were at the look before: what
    /// is still being written is not read.
    pub(super) fn have_changed(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(|(path, _)| Stamp::of(path)).collect();
        let listed: Vec<_> =
            self.listings.iter().map(|(listing, _)| listing.files().ok()).collect();
        let is_as_read = self.files.iter().map(|(_, read)| read).eq(&now)
            && self.listings.iter().map(|(_, read)| read).eq(&listed);
        let now = (now, listed);
        if is_as_read {
            self.found = None;
            return false;
        }
        let is_at_rest = self.found.as_ref() == Some(&now);
        self.found = Some(now);
        is_at_rest
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_counts_once_it_is_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        let begin = |name: &str| {
            let mut watched = Watched::default();
            watched.add(&at(name));
            assert!(!watched.have_changed());
            watched
        };
        write("one", "1");
        let mut watched = begin("one");
        write("one", "written over");
        assert!(!watched.have_changed(), "it may be half of it");
        write("one", "written over again");
        assert!(!watched.have_changed(), "it was half of it");
        assert!(watched.have_changed());

        let mut watched = begin("one");
        write("other", "written over aGAIN");
        fs::rename(at("other"), at("one")).unwrap();
        assert!(!watched.have_changed());
        assert!(watched.have_changed(), "a rename of equal length");

        // As Kubernetes mounts a ConfigMap: the link that is swapped is not the file's own.
        fs::create_dir(at("v1")).unwrap();
        fs::create_dir(at("v2")).unwrap();
        write("v1/file", "1");
        write("v2/file", "2");
        symlink("v1", at("data")).unwrap();
        symlink("data/file", at("file")).unwrap();
        let mut watched = begin("file");
        symlink("v2", at("data.new")).unwrap();
        fs::rename(at("data.new"), at("data")).unwrap();
        assert!(!watched.have_changed());
        assert!(watched.have_changed(), "a link was swapped");

        let mut watched = begin("none");
        write("none", "");
        assert!(!watched.have_changed());
        assert!(watched.have_changed(), "it is there now");
        fs::remove_file(at("none")).unwrap();
        assert!(!watched.have_changed(), "as it was read: nothing to do");
        assert!(!watched.have_changed());
    }
}
