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

/// Keeps secrets by name: letters, digits and `-`.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The secret, or `None` when there is none of this name. What was read within the last hour is
    /// good enough.
    async fn secret(&self, name: &str) -> Result<Option<Secret>>;

    /// A secret that was read before, as it was then if it can't be read now.
    async fn known(&self, name: &str) -> Option<Secret>;

    /// A secret, read anew.
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

    async fn expires(&self) -> Option<DateTime<Utc>> {
        self.store.known(&self.name).await?.expires
    }
}
