//! What can be wrong with the folder of the embedded tier.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It is open elsewhere.
    #[error("in use")]
    InUse,
    /// What lies on the disk is not what was written there.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk is full, or does not work; the database has to be opened again.
    #[error(transparent)]
    Failed(redb::Error),
    /// It is not open.
    #[error("not open")]
    Closed,
}

impl From<redb::Error> for Trouble {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => Self::InUse,
            // A file that something else has cut or written.
            E::Io(error)
                if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged(error.to_string())
            }
            E::Corrupted(what) => Self::Damaged(what),
            E::UpgradeRequired(_)
            | E::RepairAborted
            | E::TableTypeMismatch { .. }
            | E::TableIsMultimap(_)
            | E::TypeDefinitionChanged { .. } => Self::Damaged(error.to_string()),
            error => Self::Failed(error),
        }
    }
}

/// Why the embedded tier cannot be used from the start.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// Two processes would overwrite each other's work.
    #[error("the folder `{}` is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It cannot be made, read or written.
    #[error("the folder `{}` cannot be used", .folder.display())]
    Failed {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NotOpened {
    pub(super) fn failed(
        folder: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { folder: folder.to_owned(), source: source.into() }
    }
}
