//! The yardsticks: what nobody can leave out, done in the plainest way, one step after the other in
//! one thread. Nothing is mapped, remembered, counted or proven.

use std::{io::Write, time::Instant};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::{Compression, write::GzEncoder};
use http::{Method, header};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Done, Usage};
use crate::{
    app,
    config::{SecretSource, Settings, SinkSettings, Source},
    core::{batch::MAX_BATCH_BYTES, request::encode},
    error::{Error, Result},
    io::{
        clock::Clock,
        http::{Request, SharedTransport},
    },
};

/// A page of detections, cut into its records.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    detections: Vec<&'a RawValue>,
    next_page_token: Option<String>,
}

/// Where a page says what the next one is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tail {
    next_page_token: Option<String>,
}

/// Reads every page, cuts it into rows, compresses and writes them.
pub(super) async fn work(settings: Settings, clock: &dyn Clock) -> Result<Done> {
    let began = Instant::now();
    let mut reader = Reader::start(&settings, clock.now()).await?;
    let writer = Writer::start(&settings, &reader).await?;
    let (mut records, mut bytes) = (0, 0);
    let mut batch = vec![b'['];
    while let Some(page) = reader.next().await? {
        let page: Page<'_> = serde_json::from_slice(&page).map_err(strange)?;
        for record in page.detections {
            let record = record.get().as_bytes();
            records += 1;
            bytes += record.len() as u64;
            if batch.len() + record.len() >= MAX_BATCH_BYTES {
                writer.write(&mut batch).await?;
            }
            batch.extend_from_slice(record);
            batch.push(b',');
        }
        reader.go_on(page.next_page_token);
    }
    if batch.len() > 1 {
        writer.write(&mut batch).await?;
    }
    Ok(Done {
        records,
        bytes,
        seconds: began.elapsed().as_secs_f64(),
        usage: Usage::of_this_process()?,
    })
}

/// Reads every page, and does nothing with it.
pub(super) async fn fetch(settings: Settings, clock: &dyn Clock) -> Result<Done> {
    let mut reader = Reader::start(&settings, clock.now()).await?;
    let began = Instant::now();
    let mut bytes = 0;
    while let Some(page) = reader.next().await? {
        bytes += page.len() as u64;
        let end = memchr::memmem::rfind(&page, br#""nextPageToken""#).unwrap_or_default();
        let tail = [b"{", page.get(end..).unwrap_or_default()].concat();
        let tail: Tail = serde_json::from_slice(&tail).map_err(strange)?;
        reader.go_on(tail.next_page_token);
    }
    Ok(Done {
        records: 0,
        bytes,
        seconds: began.elapsed().as_secs_f64(),
        usage: Usage::of_this_process()?,
    })
}

/// Pages, one after the other.
struct Reader {
    transport: SharedTransport,
    list: String,
    bearer: String,
    /// The page to read next; none at the end.
    next: Option<String>,
}

impl Reader {
    /// Signs in.
    async fn start(settings: &Settings, now: DateTime<Utc>) -> Result<Self> {
        let transport = app::network(settings)?;
        let Some(Source::Eset(eset)) = settings.connections.first().map(|one| &one.source) else {
            return Err(Error::contract("the reference has no connection"));
        };
        let SecretSource::Given(password) = &eset.password else {
            return Err(Error::contract("the reference has no password"));
        };
        let form = [
            ("grant_type", "password"),
            ("username", &eset.login),
            ("password", password.expose_secret()),
        ];
        let url = format!("{}/oauth/token", eset.base_url("business-account.iam"));
        let bearer = sign_in(&transport, &url, &form).await?;
        let instant =
            |time: DateTime<Utc>| encode(&time.to_rfc3339_opts(SecondsFormat::Secs, true));
        let list = format!(
            "{}/v1/detections?startTime={}&endTime={}&pageSize=1000",
            eset.base_url("incident-management"),
            instant(now - TimeDelta::days(1)),
            instant(now),
        );
        Ok(Self {
            transport,
            list,
            bearer,
            next: Some(String::new()),
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(token) = self.next.take() else {
            return Ok(None);
        };
        let url = format!("{}&pageToken={}", self.list, encode(&token));
        let request = request(Method::GET, &url, &[(header::AUTHORIZATION, &self.bearer)]);
        exchange(&self.transport, request, Bytes::new())
            .await
            .map(Some)
    }

    fn go_on(&mut self, token: Option<String>) {
        self.next = token.filter(|token| !token.is_empty());
    }
}

/// Writes rows to the Logs Ingestion API.
struct Writer {
    transport: SharedTransport,
    url: String,
    bearer: String,
}

impl Writer {
    /// Signs in.
    async fn start(settings: &Settings, reader: &Reader) -> Result<Self> {
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
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", secret.expose_secret()),
            ("scope", scope),
        ];
        let url = format!("{}/{tenant}/oauth2/v2.0/token", identity.authority_host);
        Ok(Self {
            transport: SharedTransport::clone(&reader.transport),
            bearer: sign_in(&reader.transport, &url, &form).await?,
            url: format!(
                "{endpoint}/dataCollectionRules/{dcr_immutable_id}/streams/{stream}\
                 ?api-version=2023-01-01"
            ),
        })
    }

    /// Writes the rows of an array that lacks its end, and begins the next one.
    async fn write(&self, batch: &mut Vec<u8>) -> Result<()> {
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

async fn sign_in(transport: &SharedTransport, url: &str, form: &[(&str, &str)]) -> Result<String> {
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

fn request(
    method: Method,
    url: &str,
    headers: &[(header::HeaderName, &str)],
) -> http::request::Builder {
    let request = http::Request::builder().method(method).uri(url);
    headers.iter().fold(request, |request, (name, value)| {
        request.header(name, *value)
    })
}

async fn exchange(
    transport: &SharedTransport,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Bytes> {
    let request: Request = request.body(body).map_err(strange)?;
    let response = transport.send(request).await.map_err(strange)?;
    if !response.status.is_success() {
        return Err(strange(format!("answered {}", response.status)));
    }
    response.whole_body().await.map_err(strange)
}

/// Nothing goes wrong on this machine that could be mended.
fn strange(error: impl std::fmt::Display) -> Error {
    Error::contract(format!("the reference failed: {error}"))
}
