//! ESET Connect: detections of PROTECT, Inspect and Cloud Office Security, and incidents.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use http::Method;

use super::{SharedSource, Source, SourceConnection};
use crate::{
    core::{
        mapping::enrichment::EnrichRequest,
        position::{
            cursor::{Listed, Slice},
            paging::Page,
            window::Window,
        },
        protocol::{
            choice::{Choice, Choices},
            endpoint::{Endpoint, Enrich},
            request::{PAGE_SIZE, page_query},
            roles::Beyond,
        },
    },
    error::Result,
    io::{
        exchange::{ApiClient, ApiRequest, Reply, RequestOptions},
        limiter::Limiter,
        password::Password,
        retry::Limits,
        token::{TokenSource, password_grant::PasswordGrant},
        wire::Wire,
    },
    source::Enriched,
};

mod endpoints;
mod listed;
mod lookup;

pub use endpoints::{CLOUD_OFFICE, DETECTIONS, DEVICES, INCIDENTS, PROVIDER, STREAMS};
use listed::ListWalk;
use lookup::{Devices, Pause};

/// The service that grants tokens.
const TOKEN_DOMAIN: &str = "business-account.iam";

/// Records that are enriched together: so many are safe even if the time ends with the next ones.
const TOGETHER: usize = 100;

/// What is looked up about detections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookUps {
    /// The v2 shape of v1 detections.
    pub details: bool,
    /// The names of devices.
    pub devices: bool,
}

impl LookUps {
    /// What these choices want to be looked up.
    pub fn of(choices: &Choices) -> Self {
        Self {
            details: choices.has(Choice("ESET_ENRICH", "details")),
            devices: choices.has(Choice("ESET_ENRICH", "hosts")),
        }
    }
}

/// Where and as whom to ask.
#[derive(Debug, Clone)]
pub struct Account {
    /// The service's base URL, with `{domain}` in place of the service.
    pub url_template: String,
    /// The API user's login.
    pub login: String,
    /// Its password.
    pub password: Password,
    /// The most calls a second, over all streams.
    pub calls_per_second: NonZeroU32,
    /// What is looked up.
    pub look_ups: LookUps,
}

impl Account {
    fn url(&self, domain: &str, path_and_query: &str) -> String {
        format!(
            "{}{path_and_query}",
            self.url_template.replace("{domain}", domain)
        )
    }
}

/// What the streams of a connection share: one token, one rate limit, one map of devices.
pub struct Connection {
    account: Account,
    limiter: Arc<Limiter>,
    login: Arc<PasswordGrant>,
    asker: ApiClient,
    devices: Devices,
    /// Details are not asked for while this is on: the service has none, or did not answer.
    no_details: Pause,
    no_devices: Pause,
    /// The window that detections are being read in.
    reads: Mutex<Option<Window>>,
    /// The walk over the list of their details.
    walk: tokio::sync::Mutex<ListWalk>,
}

impl Connection {
    /// A connection for `account`.
    pub fn new(account: Account, wire: Wire) -> Arc<Self> {
        let calls = account.calls_per_second;
        let limiter = Limiter::per_second(calls, Arc::clone(&wire.clock));
        Self::limited(account, Arc::new(limiter), wire)
    }

    /// A connection for an account that `other` uses as well: the service counts their calls
    /// together.
    pub fn beside(other: &Self, account: Account, wire: Wire) -> Arc<Self> {
        Self::limited(account, Arc::new(other.limiter.beside()), wire)
    }

    fn limited(account: Account, limiter: Arc<Limiter>, wire: Wire) -> Arc<Self> {
        let plain = ApiClient::new(wire, Arc::clone(&limiter));
        let login = Arc::new(PasswordGrant::new(
            "eset login",
            account.url(TOKEN_DOMAIN, "/oauth/token"),
            &account.login,
            account.password.clone(),
            plain.clone(),
        ));
        let asker = plain.with_tokens(Arc::<PasswordGrant>::clone(&login), "");
        Arc::new(Self {
            account,
            limiter,
            login,
            asker,
            devices: Devices::default(),
            no_details: Pause::default(),
            no_devices: Pause::default(),
            reads: Mutex::default(),
            walk: tokio::sync::Mutex::default(),
        })
    }

    /// True when both ask as the same user of the same service.
    pub fn is_account(&self, account: &Account) -> bool {
        self.account.login == account.login && self.account.url_template == account.url_template
    }

    /// Detections are being read in this window, if in any.
    fn reads(&self, window: Option<Window>) {
        *self.reads.lock().unwrap_or_else(PoisonError::into_inner) = window;
    }
}

#[async_trait]
impl SourceConnection for Connection {
    fn stream(self: Arc<Self>, endpoint: &'static Endpoint) -> SharedSource {
        Arc::new(Eset::new(self, endpoint))
    }

    fn issuer(&self) -> &'static str {
        "ESET"
    }

    async fn log_in(&self, _: &[&Endpoint], limits: &Limits) -> Result<Vec<Beyond>> {
        self.login.token("", None, limits).await?;
        Ok(Vec::new())
    }
}

fn get(name: &str, url: String, has_position: bool) -> ApiRequest {
    ApiRequest {
        name: name.to_owned(),
        method: Method::GET,
        url,
        body: None,
        has_position,
        manner: RequestOptions::default(),
    }
}

/// One stream of a connection.
pub struct Eset {
    connection: Arc<Connection>,
    endpoint: &'static Endpoint,
}

impl Eset {
    /// The stream that `endpoint` describes.
    pub fn new(connection: Arc<Connection>, endpoint: &'static Endpoint) -> Self {
        Self {
            connection,
            endpoint,
        }
    }

    /// Details of its records are looked up.
    fn has_details(&self) -> bool {
        self.endpoint.enrich == Enrich::Detections && self.connection.account.look_ups.details
    }
}

#[async_trait]
impl Source for Eset {
    fn endpoint(&self) -> &'static Endpoint {
        self.endpoint
    }

    async fn page(
        &self,
        slice: &Slice,
        page: &Page,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)> {
        let (query, records) = page_query(self.endpoint, slice, page);
        let url = self.connection.account.url(self.endpoint.domain, &query);
        if self.endpoint.enrich == Enrich::Detections {
            self.connection.reads(slice.window());
        }
        let has_position = !page.is_first() || matches!(slice, Slice::Token(_));
        let question = get(self.endpoint.stream, url, has_position);
        Ok((self.connection.asker.ask(&question, limits).await?, records))
    }

    fn enriches(&self) -> bool {
        let devices = self.connection.account.look_ups.devices;
        match self.endpoint.enrich {
            Enrich::Detections => devices || self.has_details(),
            Enrich::Devices => devices,
            Enrich::Incidents => true,
            Enrich::Nothing => false,
        }
    }

    fn together(&self, known: Option<Listed>) -> usize {
        // Of a page of a list one call asks for all that it leaves out.
        let are_listed = self.has_details() && known.is_some_and(|known| known.carried);
        if are_listed {
            PAGE_SIZE as usize
        } else {
            TOGETHER
        }
    }

    async fn enrich(
        &self,
        records: &[EnrichRequest<'_>],
        known: Option<Listed>,
        limits: &Limits,
    ) -> Enriched {
        let connection = &self.connection;
        if self.endpoint.enrich == Enrich::Incidents {
            return connection.incidents(records, limits).await;
        }
        let has_details = self.has_details();
        connection
            .detections(records, has_details, known, limits)
            .await
    }
}
