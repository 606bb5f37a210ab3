//! What can go wrong with the state directory.

use std::{io, path::PathBuf};

use crate::reconcile::CoreError;

/// Why the store could not do what was asked. Nothing was lost: what stood before still stands.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another op-dbus owns the directory.
    #[error("the state directory {0} is in use by another op-dbus")]
    Locked(PathBuf),
    /// A newer op-dbus wrote it; this one would misread it.
    #[error("{path} has format {found}, this op-dbus knows formats up to {known}: use the newer op-dbus that wrote it")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// There is no such generation, or it is one of the pruned.
    #[error("there is no generation {0}")]
    NotFound(u64),
    /// Its document on disk is not the one that was stored.
    #[error("generation {number} is damaged: {why}")]
    Damaged {
        /// The generation.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing op-dbus or its directory: a full disk is
    /// emptied, another owner ends.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted
            ),
            Self::Locked(_) => true,
            Self::NewerFormat { .. } | Self::NotFound(_) | Self::Damaged { .. } => false,
        }
    }

    /// For `map_err`: the file system refused to do that to this path.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<StoreError> for CoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
