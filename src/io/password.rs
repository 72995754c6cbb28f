//! Passwords that may change while the program runs.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::{
    exchange::{ApiClient, Limits, Tokens},
    login::Login,
};
use crate::error::{Error, Kind, Result};

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

/// The tokens of a login whose password may change.
pub struct ChangingLogin {
    name: String,
    url: String,
    user: String,
    password: Password,
    asker: ApiClient,
    held: Mutex<Option<Held>>,
}

struct Held {
    password: SecretString,
    login: Login,
    /// The run, by its end, in which the password was refused, and how.
    refused: Option<(DateTime<Utc>, Error)>,
}

impl ChangingLogin {
    /// As [`Login::new`], but that `password` is asked for when it is needed, and again when it is
    /// refused.
    pub fn new(name: &str, url: String, login: &str, password: Password, asker: ApiClient) -> Self {
        Self {
            name: name.to_owned(),
            url,
            user: login.to_owned(),
            password,
            asker,
            held: Mutex::new(None),
        }
    }

    fn held(&self, password: SecretString) -> Held {
        let (url, asker) = (self.url.clone(), self.asker.clone());
        let login = Login::new(&self.name, url, &self.user, password.clone(), asker);
        Held {
            password,
            login,
            refused: None,
        }
    }
}

#[async_trait]
impl Tokens for ChangingLogin {
    async fn bearer(&self, refused: Option<&str>, limits: &Limits) -> Result<Arc<str>> {
        let mut held = self.held.lock().await;
        let held = match &mut *held {
            Some(held) => held,
            none => {
                let password = self.password.current().await?;
                none.insert(self.held(password))
            }
        };
        let run = limits.deadline;
        let asked = match &held.refused {
            // Whoever sends it again and again is locked out.
            Some((of, why)) if *of == run => Err(why.clone()),
            _ => held.login.bearer(refused, limits).await,
        };
        let error = match asked {
            Err(error) if error.kind() == Kind::Config => error,
            end => return end,
        };
        let Some(password) = self.password.other_than(&held.password).await? else {
            held.refused = Some((run, error.clone()));
            return Err(error);
        };
        tracing::info!(login = self.name, "the password has changed");
        *held = self.held(password);
        let asked = held.login.bearer(None, limits).await;
        if let Err(error) = &asked
            && error.kind() == Kind::Config
        {
            held.refused = Some((run, error.clone()));
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::script::{Peer, Step};

    #[tokio::test]
    async fn a_refused_password_is_sent_once_in_a_run() {
        let refusals = [400, 400, 400].map(Step::status);
        let peer = Peer::new(refusals, []);
        let url = "https://id.example/oauth/token".to_owned();
        let password = Password::from("canary".to_owned());
        let login = ChangingLogin::new("eset login", url, "me", password, peer.asker());
        let run = peer.limits(100);
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(login.bearer(None, &run).await.unwrap_err());
        }
        assert!(told.iter().all(|error| *error == told[0]), "{told:?}");
        assert_eq!(told[0].kind(), Kind::Config);
        assert_eq!(peer.asked_times(), 1);
        // The next run may find it mended.
        login.bearer(None, &peer.limits(400)).await.unwrap_err();
        assert_eq!(peer.asked_times(), 2);
    }
}
