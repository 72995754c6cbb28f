//! Access tokens for services that sign in by Microsoft Entra ID.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};

use super::exchange::{Limits, Tokens};
use crate::error::Result;

/// Where access tokens come from.
#[async_trait]
pub trait AccessTokens: Send + Sync {
    /// A token for `scope`, such as `https://storage.azure.com/.default`, that is good for a while
    /// yet. It is asked for at every request, so it is kept by whoever implements this.
    async fn token(&self, scope: &str) -> Result<SecretString>;
}

/// Tokens that can be replaced before they expire.
#[async_trait]
pub trait RenewableTokens: AccessTokens {
    /// A token in place of one that a service has `refused`, once for all who hold it.
    async fn renewed(&self, scope: &str, refused: &SecretString) -> Result<SecretString>;

    /// Another token than one that `lacks` a role, asked for once in the run that ends then; none
    /// when there is no other.
    async fn with_roles(
        &self,
        _scope: &str,
        _lacks: &SecretString,
        _run: DateTime<Utc>,
    ) -> Option<SecretString> {
        None
    }
}

/// Tokens that can be shared.
pub type SharedTokens = Arc<dyn RenewableTokens>;

/// Tokens for one scope, for who asks questions of one service.
pub struct Scoped {
    tokens: SharedTokens,
    scope: String,
}

impl Scoped {
    /// The tokens of `tokens` for `scope`.
    pub fn new(tokens: SharedTokens, scope: &str) -> Self {
        Self {
            tokens,
            scope: scope.to_owned(),
        }
    }
}

#[async_trait]
impl Tokens for Scoped {
    async fn bearer(&self, refused: Option<&str>, _: &Limits) -> Result<Arc<str>> {
        let token = match refused {
            None => self.tokens.token(&self.scope).await?,
            Some(refused) => {
                let refused = SecretString::from(refused);
                self.tokens.renewed(&self.scope, &refused).await?
            }
        };
        Ok(token.expose_secret().into())
    }

    async fn with_roles(&self, lacks: &str, limits: &Limits) -> Option<Arc<str>> {
        let lacks = SecretString::from(lacks);
        let tokens = &self.tokens;
        let other = tokens.with_roles(&self.scope, &lacks, limits.deadline);
        Some(other.await?.expose_secret().into())
    }
}
