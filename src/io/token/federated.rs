//! The token of a managed identity, as the assertion of an app that trusts it.

use std::fmt;

use async_trait::async_trait;
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{credential::Federation, failure};
use crate::{
    error::{Error, Result},
    io::retry::Limits,
};

/// A token of the identity.
#[derive(Clone)]
pub(super) struct IdentityAssertion(pub(super) SecretString);

impl fmt::Debug for IdentityAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityAssertion")
    }
}

#[async_trait]
impl ClientAssertion for IdentityAssertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose_secret().to_owned())
    }
}

impl Federation {
    /// The token of the identity: asked for once, whichever apps trust it.
    pub(super) async fn assertion(&self, limits: &Limits) -> Result<IdentityAssertion> {
        let scope = format!("{}/.default", self.audience);
        let token = self.tokens.token(&scope, None, limits).await;
        token.map(IdentityAssertion).map_err(|error| {
            error.context("no token of the identity that `DEFENDER_CLIENT_FEDERATED` needs")
        })
    }

    /// A refusal with what the app has to trust, as far as the assertion tells it.
    pub(super) fn explained(&self, error: Error, assertion: &IdentityAssertion) -> Error {
        if !failure::is_of_trust(&error) {
            return error;
        }
        let named = IdentityClaims::of(assertion.0.expose_secret()).map(|claims| {
            format!(
                "issuer `{}`, subject `{}` and audience `{}`",
                claims.iss, claims.sub, self.audience
            )
        });
        let named = named.unwrap_or_else(|| format!("audience `{}`", self.audience));
        error.context(format!(
            "the app must have a federated credential with {named}"
        ))
    }
}

/// What a token says of itself. Its holder may not rely on it, but may tell it.
#[derive(Deserialize)]
struct IdentityClaims {
    iss: String,
    sub: String,
}

impl IdentityClaims {
    fn of(token: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&claims).ok()
    }
}
