//! Access tokens: one [`TokenSource`] for whoever asks a service, whatever proves who we are.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::retry::Limits;
use crate::error::Result;

mod cache;
mod certificate;
mod cli;
mod credential;
mod entra;
pub(crate) mod failure;
mod federated;
mod managed;
pub mod password_grant;

pub use cache::TokenCache;
pub use certificate::Certificate;
pub use credential::{Credential, Federation, Platform, Proof, Registration};

/// A token that a service did not take.
#[derive(Debug, Clone, Copy)]
pub enum Rejected<'a> {
    /// The service refuses it.
    Refused(&'a SecretString),
    /// It lacks a role, which somebody may have granted since it was made. Another one is asked for
    /// at most once in the run that the limits are of.
    LacksRole(&'a SecretString),
}

/// Where access tokens come from. It is asked at every request, so it keeps what it has.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token for `scope`, such as `https://storage.azure.com/.default`, that is good for a while
    /// yet. A `rejected` one is replaced, once for all who hold it; one that lacks a role comes back
    /// when no other one can be had.
    async fn token(
        &self,
        scope: &str,
        rejected: Option<Rejected<'_>>,
        limits: &Limits,
    ) -> Result<SecretString>;
}

/// Tokens that can be shared.
pub type SharedTokens = Arc<dyn TokenSource>;

/// True when both hold the same text.
pub(crate) fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
