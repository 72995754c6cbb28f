//! Access tokens of Entra, whoever they are for.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::error::Result;

/// Gives out access tokens of one identity.
#[async_trait]
pub trait AccessTokens: Send + Sync {
    /// A token for `scope`, such as `https://storage.azure.com/.default`, that does not expire soon.
    async fn token(&self, scope: &str) -> Result<SecretString>;
}

/// Access tokens that can be shared.
pub type SharedAccessTokens = Arc<dyn AccessTokens>;
