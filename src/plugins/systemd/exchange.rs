//! What goes into the mirror and what comes out of it.

use super::{entry::What, parts::Properties};
use crate::model::{Change, Name};

/// A question to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// All units in memory: `ListUnits`.
    Units,
    /// `GetUnit`, which is the only question about a unit that does not load it.
    Loaded(Asker, String),
    /// `GetAll` of an interface at a path.
    All(Asker, What, String, &'static str),
    /// `GetUnitFileState`.
    FileState(Asker, String),
    /// `JobType` of the job of that number and path.
    JobKind(Asker, u32, String),
    /// `GetUnit` of a trigger.
    TriggerLoaded(String),
    /// `ActiveState` of a trigger.
    TriggerState(String),
}

/// The entry that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    /// Its name.
    pub(super) name: Name,
    /// Its number.
    pub(super) number: u64,
}

/// What systemd answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Names of units.
    Units(Vec<String>),
    /// It was done, or is so.
    Yes,
    /// Properties.
    Properties(Properties),
    /// A word.
    Word(String),
    /// An error: there is no such thing.
    No,
}

/// What systemd tells by itself.
#[derive(Debug)]
pub(super) enum Signal {
    /// `PropertiesChanged`.
    Changed {
        /// Of that object.
        path: String,
        /// Of that interface.
        interface: String,
        /// The new values.
        properties: Properties,
        /// Names of those whose values must be asked for.
        invalidated: Vec<String>,
    },
    /// A unit was loaded into memory.
    UnitNew(String),
    /// A unit left memory.
    UnitRemoved(String),
    /// Somebody changed unit files through systemd.
    FilesChanged,
    /// systemd reads its unit files again, or has.
    Reloading(bool),
}

/// What the model is to be told.
#[derive(Debug, PartialEq)]
pub(super) enum Batch {
    /// Everything.
    Reset(Vec<Change>),
    /// What changed.
    Changes(Vec<Change>),
    /// What changed by a reload, which is over.
    Reloaded(Vec<Change>),
}
