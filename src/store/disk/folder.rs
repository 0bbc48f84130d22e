//! The folder that the embedded tier lies in: whose it is, and what becomes of the database in it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tracing::warn;

use crate::store::disk::database::Database;
use crate::store::disk::files::Files;
use crate::store::disk::trouble::Trouble;
use crate::stored::Position;

/// Where the database lies in the folder, and what is made of a damaged one.
pub(super) const DATABASE: &str = "larder.redb";
const DAMAGED: &str = "larder.redb.damaged";
const LARGE: &str = "large";

/// The folder for this process alone. It is made if it is not there.
pub(super) fn lock(folder: &Path) -> Result<File, TryLockError> {
    // What is stored may be for few eyes.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(TryLockError::Error)?;
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"));
    let lock = lock.map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}

/// The database in a folder. In a new one nothing from before `floor` is valid.
pub(super) fn open(folder: &Path, floor: Position) -> Result<Database, Trouble> {
    let files = Files::in_folder(folder.join(LARGE)).map_err(redb::Error::from)?;
    Database::open(&folder.join(DATABASE), files, floor)
}

/// Puts a damaged database out of the way, in the place of the last one, so that a failure of power does
/// not bring it back: it would lack what is invalidated from now on.
pub(super) fn set_aside(folder: &Path) -> io::Result<()> {
    let (from, to) = (folder.join(DATABASE), folder.join(DAMAGED));
    match fs::rename(from, &to) {
        Ok(()) => warn!("L2's database was damaged, it is {} now: beginning anew", to.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            warn!(%error, "L2's damaged database cannot be put aside");
            return Err(error);
        }
    }
    File::open(folder)?.sync_all()
}

/// Removes the database, so that it stays removed after a failure of power.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(DATABASE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => File::open(folder)?.sync_all(),
    }
}
