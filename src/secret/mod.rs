//! Secrets that are kept elsewhere than in the settings, and may change there.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::SecretString;

use crate::{
    error::{Error, Result},
    io::password::{Keeper, Password},
};

pub mod key_vault;

/// A secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its value.
    pub value: SecretString,
    /// Until when it is good, if whoever put it there said so.
    pub expires: Option<DateTime<Utc>>,
}

impl Secret {
    /// Whole days until it expires, negative when it has.
    pub fn days_left(&self, now: DateTime<Utc>) -> Option<i64> {
        self.expires
            .map(|expires| (expires - now).num_seconds().div_euclid(24 * 3600))
    }
}

/// Keeps secrets by name: letters, digits and `-`.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The secret, or `None` when there is none of this name. What was read within the last hour is
    /// good enough.
    async fn secret(&self, name: &str) -> Result<Option<Secret>>;

    /// The same, read anew.
    async fn refresh(&self, name: &str) -> Result<Option<Secret>>;

    /// What it is, for people.
    fn described(&self) -> String;
}

/// A store that can be shared.
pub type SharedSecrets = Arc<dyn SecretStore>;

/// The password that `store` keeps under `name`, in place of the setting `setting`.
pub fn password(store: &SharedSecrets, name: &str, setting: &str) -> Password {
    Password::Kept(Arc::new(Kept {
        store: Arc::clone(store),
        name: name.to_owned(),
        setting: setting.to_owned(),
    }))
}

struct Kept {
    store: SharedSecrets,
    name: String,
    setting: String,
}

impl Kept {
    fn found(&self, secret: Option<Secret>) -> Result<SecretString> {
        secret.map(|secret| secret.value).ok_or_else(|| {
            let (name, setting) = (&self.name, &self.setting);
            Error::config(format!(
                "`{setting}` is not set, and {} has no secret `{name}`: add it there, or set \
                 `{setting}`",
                self.store.described()
            ))
        })
    }
}

#[async_trait]
impl Keeper for Kept {
    async fn password(&self) -> Result<SecretString> {
        self.found(self.store.secret(&self.name).await?)
    }

    async fn changed(&self) -> Result<SecretString> {
        self.found(self.store.refresh(&self.name).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_whole_and_go_below_zero() {
        let secret = Secret {
            value: "canary".into(),
            expires: Some("2026-03-10T12:00:00Z".parse().unwrap()),
        };
        let days = |now: &str| secret.days_left(now.parse().unwrap());
        assert_eq!(days("2026-03-09T12:00:00Z"), Some(1));
        assert_eq!(days("2026-03-09T12:00:01Z"), Some(0));
        assert_eq!(days("2026-03-10T12:00:01Z"), Some(-1));
        assert!(!format!("{secret:?}").contains("canary"));
        let forever = Secret {
            expires: None,
            ..secret
        };
        assert_eq!(forever.days_left(DateTime::default()), None);
    }
}
