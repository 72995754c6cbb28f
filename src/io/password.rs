//! Passwords that may change while the program runs.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};

use crate::error::Result;

/// Where a password is kept.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// The password, as far as it is known.
    async fn password(&self) -> Result<SecretString>;

    /// The password read again, because the one that was known is refused.
    async fn changed(&self) -> Result<SecretString>;

    /// Until when the password is good, if it was needed before and somebody has said so.
    async fn expires(&self) -> Option<DateTime<Utc>>;
}

/// A password, or whom to ask for it.
#[derive(Clone)]
pub enum Password {
    /// It is what it is.
    Given(SecretString),
    /// It is kept somewhere, and may change there.
    Kept(Arc<dyn Keeper>),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given([REDACTED])",
            Self::Kept(_) => "Kept",
        })
    }
}

impl From<SecretString> for Password {
    fn from(password: SecretString) -> Self {
        Self::Given(password)
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self::Given(password.into())
    }
}

impl Password {
    /// The password.
    pub async fn current(&self) -> Result<SecretString> {
        match self {
            Self::Given(password) => Ok(password.clone()),
            Self::Kept(keeper) => keeper.password().await,
        }
    }

    /// Another password than `refused`, if there is one by now.
    pub async fn other_than(&self, refused: &SecretString) -> Result<Option<SecretString>> {
        let Self::Kept(keeper) = self else {
            return Ok(None);
        };
        let changed = keeper.changed().await?;
        Ok((changed.expose_secret() != refused.expose_secret()).then_some(changed))
    }

    /// Until when it is good, as far as its keeper knows.
    pub async fn expires(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Given(_) => None,
            Self::Kept(keeper) => keeper.expires().await,
        }
    }
}
