//! The one error type. Its kind says who must act, and its text names the thing and the fix.

use std::{fmt, time::Duration};

/// Who must act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The operator: a setting, a role or a licence has to change.
    Config,
    /// Nobody: the next run goes on where this one stopped.
    Transient,
    /// We: the remote side no longer speaks as it did.
    Contract,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::Transient => "transient",
            Self::Contract => "contract",
        })
    }
}

/// An error with its [`Kind`]. Texts are lower case, without a final period, and never hold a
/// secret or a response body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    after: Option<Duration>,
}

/// The result of anything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The operator has to change something; `message` names it.
    pub fn config(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Config,
            message: message.into(),
            after: None,
        }
    }

    /// It will pass; `message` says what was tried.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Transient,
            message: message.into(),
            after: None,
        }
    }

    /// The remote side broke its contract; `message` says how.
    pub fn contract(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Contract,
            message: message.into(),
            after: None,
        }
    }

    /// This error, of one who asked for so much patience.
    #[must_use]
    pub fn asking_for(self, wait: Option<Duration>) -> Self {
        Self {
            after: wait,
            ..self
        }
    }

    /// How long to wait before another try, if somebody has asked for that.
    pub fn after(&self) -> Option<Duration> {
        self.after
    }

    /// Who must act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// This error with `context: ` in front of its text.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self {
            message: format!("{context}: {}", self.message),
            ..self
        }
    }
}
