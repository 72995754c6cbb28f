//! Tokens of whoever is logged in to the Azure CLI, by `azure_identity`.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_identity::{AzureCliCredential, AzureCliCredentialOptions, Executor};
use chrono::DateTime;

use super::{
    credential::GrantedToken,
    entra::{unusable, value},
    failure,
};
use crate::error::Result;

/// A token of whoever is logged in; `executor` runs `az` in place of a process.
pub(super) async fn granted(
    tenant: Option<&str>,
    scope: &str,
    executor: Option<&Arc<dyn Executor>>,
) -> Result<GrantedToken> {
    let options = AzureCliCredentialOptions {
        tenant_id: tenant.map(str::to_owned),
        executor: executor.map(Arc::clone),
        ..AzureCliCredentialOptions::default()
    };
    let credential = AzureCliCredential::new(Some(options)).map_err(|error| unusable(&error))?;
    let token = credential.get_token(&[scope], None).await;
    let token = token.map_err(|error| failure::of_cli(&error))?;
    let until = DateTime::from_timestamp(token.expires_on.unix_timestamp(), 0);
    Ok(GrantedToken::until(
        value(&token),
        until.unwrap_or_default(),
    ))
}
