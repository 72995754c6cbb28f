//! Pages of the reference: one after the other, each read whole.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::read::MultiGzDecoder;
use http::{Method, header};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    super::of::{Of, TABLE},
    strange,
    wire::{Registration, exchange, request, sign_in},
};
use crate::{
    config::{DefenderSettings, EsetSettings, SecretSource, Settings, Source},
    core::protocol::{odata::literal, request::encode},
    error::{Error, Result},
    io::http::SharedTransport,
    source::defender::hunting::CAP,
};

/// The most machines of a page.
const MACHINES: usize = 10_000;

/// Which page is next.
enum NextPage {
    /// Pages of detections name the next one.
    Detections { list: String, token: Option<String> },
    /// The first of all pages is one without a machine.
    Machines { list: String, skip: Option<usize> },
    /// One question after the other.
    Hunting {
        url: String,
        queries: VecDeque<String>,
    },
    /// One file after the other.
    ReferenceExport(VecDeque<String>),
}

/// Reads pages.
pub(super) struct ReferenceReader {
    transport: SharedTransport,
    bearer: String,
    next: NextPage,
}

impl ReferenceReader {
    /// Signs in, and finds out what there is to read.
    pub(super) async fn start(
        of: Of,
        settings: &Settings,
        transport: &SharedTransport,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let connection = settings.connections.first();
        let (bearer, next) = match connection.map(|connection| &connection.source) {
            Some(Source::Eset(eset)) => detections(eset, transport, now).await?,
            Some(Source::Defender(defender)) => {
                let tenant = Tenant {
                    settings,
                    defender,
                    transport,
                };
                tenant.start(of, now).await?
            }
            None => return Err(Error::contract("the reference has no connection")),
        };
        Ok(Self {
            transport: SharedTransport::clone(transport),
            bearer,
            next,
        })
    }

    /// The next page; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let authorized = [(header::AUTHORIZATION, self.bearer.as_str())];
        let (request, body) = match &self.next {
            NextPage::Detections { list, token } => {
                let Some(token) = token else {
                    return Ok(None);
                };
                let url = format!("{list}&pageToken={}", encode(token));
                (request(Method::GET, &url, &authorized), Bytes::new())
            }
            NextPage::Machines { list, skip } => {
                let Some(skip) = skip else {
                    return Ok(None);
                };
                let url = format!("{list}&$skip={skip}");
                (request(Method::GET, &url, &authorized), Bytes::new())
            }
            NextPage::Hunting { url, queries } => {
                let Some(query) = queries.front() else {
                    return Ok(None);
                };
                let kind = (header::CONTENT_TYPE, "application/json");
                let [authorized] = authorized;
                (
                    request(Method::POST, url, &[authorized, kind]),
                    json!({ "Query": query }).to_string().into(),
                )
            }
            NextPage::ReferenceExport(files) => {
                let Some(file) = files.front() else {
                    return Ok(None);
                };
                (request(Method::GET, file, &[]), Bytes::new())
            }
        };
        let page = exchange(&self.transport, request, body).await?;
        self.go_on(&page)?;
        Ok(Some(page))
    }

    fn go_on(&mut self, page: &[u8]) -> Result<()> {
        match &mut self.next {
            NextPage::Detections { token, .. } => {
                let end = memchr::memmem::rfind(page, br#""nextPageToken""#).unwrap_or_default();
                let tail = [b"{", page.get(end..).unwrap_or_default()].concat();
                let tail: Tail = serde_json::from_slice(&tail).map_err(strange)?;
                *token = tail.next_page_token.filter(|token| !token.is_empty());
            }
            NextPage::Machines { skip, .. } => {
                let is_last = page.ends_with(b"[]}");
                *skip = skip.map(|skip| skip + MACHINES).filter(|_| !is_last);
            }
            NextPage::Hunting { queries, .. } => drop(queries.pop_front()),
            NextPage::ReferenceExport(files) => drop(files.pop_front()),
        }
        Ok(())
    }
}

/// Where a page of detections says what the next one is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tail {
    next_page_token: Option<String>,
}

async fn detections(
    eset: &EsetSettings,
    transport: &SharedTransport,
    now: DateTime<Utc>,
) -> Result<(String, NextPage)> {
    let SecretSource::Given(password) = &eset.password else {
        return Err(Error::contract("the reference has no password"));
    };
    let form = [
        ("grant_type", "password"),
        ("username", &eset.login),
        ("password", password.expose_secret()),
    ];
    let url = format!("{}/oauth/token", eset.base_url("business-account.iam"));
    let bearer = sign_in(transport, &url, &form).await?;
    let instant = |time: DateTime<Utc>| encode(&time.to_rfc3339_opts(SecondsFormat::Secs, true));
    let list = format!(
        "{}/v1/detections?startTime={}&endTime={}&pageSize=1000",
        eset.base_url("incident-management"),
        instant(now - TimeDelta::days(1)),
        // Cut to whole seconds, it would leave out the newest.
        instant(now + TimeDelta::seconds(1)),
    );
    let token = Some(String::new());
    Ok((bearer, NextPage::Detections { list, token }))
}

/// Where the pages of Defender are.
struct Tenant<'a> {
    settings: &'a Settings,
    defender: &'a DefenderSettings,
    transport: &'a SharedTransport,
}

impl Tenant<'_> {
    async fn start(&self, of: Of, now: DateTime<Utc>) -> Result<(String, NextPage)> {
        let Self { defender, .. } = self;
        if of == Of::Hunting {
            let bearer = self.sign_in(&defender.graph_scope()).await?;
            let url = format!("{}/v1.0/security/runHuntingQuery", defender.graph_url);
            let queries = (0..24).rev().map(|hour| query(now, hour)).collect();
            return Ok((bearer, NextPage::Hunting { url, queries }));
        }
        let bearer = self.sign_in(&defender.api_scope).await?;
        let list = format!("{}/api/machines", defender.api_url);
        let next = if of == Of::Machines {
            let list = format!("{list}?$top={MACHINES}");
            let skip = Some(0);
            NextPage::Machines { list, skip }
        } else {
            let list = format!("{list}/SoftwareVulnerabilitiesExport");
            NextPage::ReferenceExport(self.files(&list, &bearer).await?)
        };
        Ok((bearer, next))
    }

    async fn sign_in(&self, scope: &str) -> Result<String> {
        let (Some(client), Some(SecretSource::Given(secret))) =
            (&self.defender.client_id, &self.defender.client_secret)
        else {
            return Err(Error::contract("the reference has no secret"));
        };
        let app = Registration {
            tenant: &self.defender.tenant_id,
            client,
            secret: secret.expose_secret(),
        };
        app.sign_in(self.settings, self.transport, scope).await
    }

    async fn files(&self, list: &str, bearer: &str) -> Result<VecDeque<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ReferenceExport {
            export_files: VecDeque<String>,
        }
        let request = request(Method::GET, list, &[(header::AUTHORIZATION, bearer)]);
        let answer = exchange(self.transport, request, Bytes::new()).await?;
        let export: ReferenceExport = serde_json::from_slice(&answer).map_err(strange)?;
        Ok(export.export_files)
    }
}

/// The rows of an hour, so many hours before the last one.
fn query(now: DateTime<Utc>, hour: i64) -> String {
    let [from, to] = [hour + 1, hour].map(|hours| literal(now - TimeDelta::hours(hours)));
    format!(
        "{TABLE} | where ingestion_time() >= datetime({from}) and ingestion_time() < datetime({to}) \
         | take {CAP}"
    )
}

/// The records of a page, one after the other.
pub(super) enum Records<'a> {
    List(std::vec::IntoIter<&'a RawValue>),
    Lines {
        text: Box<BufReader<MultiGzDecoder<&'a [u8]>>>,
        line: Vec<u8>,
    },
}

/// A page, cut into its records.
#[derive(Deserialize)]
struct ReferencePage<'a> {
    #[serde(borrow, alias = "value", alias = "results")]
    detections: Vec<&'a RawValue>,
}

impl<'a> Records<'a> {
    pub(super) fn of(page: &'a [u8]) -> Result<Self> {
        // The first byte of a compressed file, and of no JSON.
        if page.first() == Some(&0x1f) {
            return Ok(Self::Lines {
                text: Box::new(BufReader::new(MultiGzDecoder::new(page))),
                line: Vec::new(),
            });
        }
        let page: ReferencePage<'_> = serde_json::from_slice(page).map_err(strange)?;
        Ok(Self::List(page.detections.into_iter()))
    }

    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        match self {
            Self::List(records) => Ok(records.next().map(|record| record.get().as_bytes())),
            Self::Lines { text, line } => {
                line.clear();
                text.read_until(b'\n', line).map_err(strange)?;
                Ok((!line.is_empty()).then(|| line.trim_ascii_end()))
            }
        }
    }
}
