//! The functions that there are: each has a folder of its name with a `function.json`.

use crate::{
    core::{protocol::source_kind::SourceKind, spelling::hint},
    error::{Error, Result},
};

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Pulls the streams of a source.
    Pull(SourceKind),
    /// Drains the outbox.
    Push,
    /// Pulls the streams of a lane that a message names.
    PullWorker,
    /// Tells which machine is behind an address, a name or an id.
    Assets,
    /// Tells where everything stands.
    Status,
}

impl Function {
    /// Those that a timer calls, and `run` as well.
    pub const TIMERS: [Self; 3] = [
        Self::Pull(SourceKind::Eset),
        Self::Pull(SourceKind::Defender),
        Self::Push,
    ];

    /// Those that the Functions host calls.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [Self::PullWorker, Self::Assets, Self::Status];
        Self::TIMERS.into_iter().chain(others)
    }

    /// The name of its folder, by which the host calls it.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Pull(SourceKind::Eset) => "EsetTimer",
            Self::Pull(SourceKind::Defender) => "DefenderTimer",
            Self::Push => "SentinelPush",
            Self::PullWorker => "PullWorker",
            Self::Assets => "Assets",
            Self::Status => "Status",
        }
    }

    /// The function of this folder.
    pub fn in_folder(folder: &str) -> Option<Self> {
        Self::all().find(|function| function.folder() == folder)
    }

    /// The function of this folder that a timer calls.
    ///
    /// # Errors
    /// `Config`, when there is none.
    pub fn timer(folder: &str) -> Result<Self> {
        let mut timers = Self::TIMERS.into_iter();
        let found = timers.find(|function| function.folder() == folder);
        found.ok_or_else(|| {
            let folders = Self::TIMERS.map(Self::folder);
            Error::config(format!(
                "there is no function `{folder}`; there are {}{}",
                folders.join(", "),
                hint(folder, folders)
            ))
        })
    }
}
