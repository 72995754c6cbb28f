//! Access tokens for services that sign in by Microsoft Entra ID.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::error::Result;

/// Where access tokens come from.
#[async_trait]
pub trait AccessTokens: Send + Sync {
    /// A token for `scope`, such as `https://storage.azure.com/.default`, that is good for a while
    /// yet. It is asked for at every request, so it is kept by whoever implements this.
    async fn token(&self, scope: &str) -> Result<SecretString>;
}
