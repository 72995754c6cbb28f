//! Tokens of Entra for an app registration, by `azure_identity`.

use std::sync::Arc;

use azure_core::{
    credentials::{AccessToken, TokenCredential},
    http::ClientOptions,
    time::OffsetDateTime,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions,
};
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};

use super::{
    certificate::Certificate,
    credential::{GrantedToken, Registration},
    failure,
};
use crate::{
    error::{Attempt, Error, Result},
    io::{
        azure_transport::{AskedFor, client_options},
        wire::Wire,
    },
};

/// One question to Entra. The credentials of `azure_identity` are made anew each time, since they
/// hold on to their tokens, even to refused ones.
pub(super) struct EntraRequest<'a> {
    pub(super) registration: &'a Registration,
    pub(super) scope: &'a str,
    pub(super) wire: &'a Wire,
}

impl EntraRequest<'_> {
    pub(super) async fn with_secret(
        &self,
        secret: &SecretString,
        asked: DateTime<Utc>,
    ) -> Result<GrantedToken> {
        let asked_for = AskedFor::default();
        let options = ClientSecretCredentialOptions {
            client_options: self.client_options(&asked_for),
        };
        let credential = ClientSecretCredential::new(
            &self.registration.tenant_id,
            self.registration.client_id.clone(),
            secret.expose_secret().to_owned().into(),
            Some(options),
        );
        let credential = credential.map_err(|error| unusable(&error))?;
        self.send(credential, asked, &asked_for).await
    }

    pub(super) async fn with_certificate(
        &self,
        certificate: &Certificate,
        asked: DateTime<Utc>,
    ) -> Result<GrantedToken> {
        let Registration {
            authority,
            tenant_id,
            client_id,
            ..
        } = self.registration;
        let authority = authority.trim_end_matches('/');
        let assertion = certificate.assertion(
            format!("{authority}/{tenant_id}/oauth2/v2.0/token"),
            client_id.clone(),
            Arc::clone(&self.wire.clock),
        );
        self.with_assertion(assertion, asked).await
    }

    pub(super) async fn with_assertion(
        &self,
        assertion: impl ClientAssertion + 'static,
        asked: DateTime<Utc>,
    ) -> Result<GrantedToken> {
        let asked_for = AskedFor::default();
        let options = ClientAssertionCredentialOptions {
            client_options: self.client_options(&asked_for),
        };
        let credential = ClientAssertionCredential::new(
            self.registration.tenant_id.clone(),
            self.registration.client_id.clone(),
            assertion,
            Some(options),
        );
        let credential = credential.map_err(|error| unusable(&error))?;
        self.send(credential, asked, &asked_for).await
    }

    fn client_options(&self, asked_for: &AskedFor) -> ClientOptions {
        client_options(
            &self.wire.transport,
            Some(&self.registration.authority),
            asked_for,
        )
    }

    async fn send(
        &self,
        credential: Arc<dyn TokenCredential>,
        asked: DateTime<Utc>,
        asked_for: &AskedFor,
    ) -> Result<GrantedToken> {
        let token = credential.get_token(&[self.scope], None).await;
        let token = token.map_err(|error| {
            let wait = asked_for.wait(self.wire.clock.now());
            let status = failure::seen(&error).status;
            let attempt = Attempt {
                status: status.and_then(|status| StatusCode::from_u16(status).ok()),
                ..self.registration.attempt()
            };
            let error = failure::of_entra(&self.registration.tenant_id, &error);
            error.asking_for(wait).of(attempt)
        })?;
        // Entra says how long, and `azure_identity` turns that into an instant of the machine's clock.
        let life = (token.expires_on - OffsetDateTime::now_utc()).whole_seconds();
        let life = TimeDelta::seconds(life.clamp(0, 7 * 24 * 3600));
        Ok(GrantedToken::until(value(&token), asked + life))
    }
}

pub(super) fn value(token: &AccessToken) -> SecretString {
    token.token.secret().into()
}

/// Ids that can't be ids, or an authority that is no `https` URL: seen before anything is sent.
pub(super) fn unusable(error: &azure_core::Error) -> Error {
    Error::config(format!("can't be used: {error}"))
}
