//! Calls of the reference: signing in, asking, and writing rows.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::TryStreamExt;
use http::{HeaderName, Method, header};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::strange;
use crate::{
    config::{Settings, SinkSettings},
    core::protocol::request::encode,
    error::{Error, Result},
    io::http::{Request, SharedTransport},
};

/// Writes rows to the Logs Ingestion API.
pub(super) struct ReferenceWriter {
    transport: SharedTransport,
    url: String,
    bearer: String,
}

impl ReferenceWriter {
    /// Signs in.
    pub(super) async fn start(settings: &Settings, transport: &SharedTransport) -> Result<Self> {
        let identity = &settings.identity;
        let (
            Some(tenant),
            Some(client),
            Some(secret),
            SinkSettings::LogsIngestion {
                endpoint,
                scope,
                dcr_immutable_id,
                stream,
                ..
            },
        ) = (
            &identity.tenant_id,
            &identity.client_id,
            &identity.client_secret,
            &settings.sink,
        )
        else {
            return Err(Error::contract("the reference has no place to write to"));
        };
        let app = Registration {
            tenant,
            client,
            secret: secret.expose_secret(),
        };
        Ok(Self {
            bearer: app.sign_in(settings, transport, scope).await?,
            transport: SharedTransport::clone(transport),
            url: format!(
                "{endpoint}/dataCollectionRules/{dcr_immutable_id}/streams/{stream}\
                 ?api-version=2023-01-01"
            ),
        })
    }

    /// Writes the rows of an array that lacks its end, and begins the next one.
    pub(super) async fn write(&self, batch: &mut Vec<u8>) -> Result<()> {
        if let Some(last) = batch.last_mut() {
            *last = b']';
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(batch).map_err(strange)?;
        let body = encoder.finish().map_err(strange)?;
        batch.truncate(1);
        let headers = [
            (header::AUTHORIZATION, self.bearer.as_str()),
            (header::CONTENT_TYPE, "application/json"),
            (header::CONTENT_ENCODING, "gzip"),
        ];
        let request = request(Method::POST, &self.url, &headers);
        exchange(&self.transport, request, body.into())
            .await
            .map(drop)
    }
}

/// An app registration.
pub(super) struct Registration<'a> {
    pub(super) tenant: &'a str,
    pub(super) client: &'a str,
    pub(super) secret: &'a str,
}

impl Registration<'_> {
    /// Signs in for `scope`.
    pub(super) async fn sign_in(
        &self,
        settings: &Settings,
        transport: &SharedTransport,
        scope: &str,
    ) -> Result<String> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client),
            ("client_secret", self.secret),
            ("scope", scope),
        ];
        let authority = &settings.identity.authority_host;
        let url = format!("{authority}/{}/oauth2/v2.0/token", self.tenant);
        sign_in(transport, &url, &form).await
    }
}

/// The value of `Authorization` for whom `form` names.
pub(super) async fn sign_in(
    transport: &SharedTransport,
    url: &str,
    form: &[(&str, &str)],
) -> Result<String> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let form: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let kind = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = request(Method::POST, url, &[kind]);
    let answer = exchange(transport, request, form.join("&").into()).await?;
    let token: Token = serde_json::from_slice(&answer).map_err(strange)?;
    Ok(format!("Bearer {}", token.access_token))
}

pub(super) fn request(
    method: Method,
    url: &str,
    headers: &[(HeaderName, &str)],
) -> http::request::Builder {
    let request = http::Request::builder().method(method).uri(url);
    headers.iter().fold(request, |request, (name, value)| {
        request.header(name, *value)
    })
}

pub(super) async fn exchange(
    transport: &SharedTransport,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Bytes> {
    let request: Request = request.body(body).map_err(strange)?;
    let mut response = transport.send(request).await.map_err(strange)?;
    if !response.status.is_success() {
        return Err(strange(format!("answered {}", response.status)));
    }
    let mut body = Vec::new();
    while let Some(part) = response.body.try_next().await.map_err(strange)? {
        body.extend_from_slice(&part);
    }
    Ok(body.into())
}
