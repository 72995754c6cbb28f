//! Microsoft Defender: devices, vulnerabilities, alerts and incidents, from the APIs of Defender for
//! Endpoint (MDE), Defender XDR and Microsoft Graph.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{Method, Uri};
use secrecy::ExposeSecret;

use super::Source;
use crate::{
    core::{
        cursor::Slice,
        endpoint::Endpoint,
        odata::{Asks, page_query},
        paging::{FilePage, Paging, Part},
        roles::{self, Beyond},
    },
    error::Result,
    io::{
        access::Scoped,
        clock::SharedClock,
        exchange::{Asker, Limits, Manner, Question, Random, Reply},
        http::SharedTransport,
        identity::SharedTokens,
        limiter::Limiter,
    },
};

mod endpoints;
mod evidence;
mod export;
mod users;

pub(crate) use endpoints::plain;
pub use endpoints::{
    ALERTS, CATALOGUE, ENDPOINTS, INCIDENTS, INCIDENTS_WITH_ALERTS, MACHINES, MDE_ALERTS,
    SOFTWARE_VULNERABILITIES, VULNERABILITIES, XDR_INCIDENTS,
};
use export::Exports;

/// The APIs, as endpoints name them. Each has quotas of its own (defender.md 2).
pub(crate) const MDE: &str = "mde";
pub(crate) const BY_MACHINE: &str = "mde by machine";
pub(crate) const EXPORT: &str = "mde export";
pub(crate) const GRAPH: &str = "graph";
pub(crate) const XDR: &str = "xdr";
pub(crate) const HUNTING: &str = "hunting";
/// Files behind links of their own, which want no token.
pub(crate) const FILES: &str = "files";

/// The application whose roles open an endpoint's API, as portals call it.
pub fn resource(endpoint: &Endpoint) -> &'static str {
    match endpoint.domain {
        GRAPH | HUNTING => "Microsoft Graph",
        XDR => "Microsoft Threat Protection",
        _ => "WindowsDefenderATP",
    }
}

/// How many calls an API takes of one app in one tenant.
fn quotas(api: &str) -> &'static [(u32, Duration)] {
    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);
    match api {
        MDE => &[(100, MINUTE), (1_500, HOUR)],
        BY_MACHINE => &[(30, MINUTE), (1_000, HOUR)],
        EXPORT => &[(5, MINUTE), (20, HOUR)],
        XDR => &[(50, MINUTE), (1_500, HOUR)],
        GRAPH => &[(150, MINUTE)],
        HUNTING => &[(45, MINUTE)],
        _ => &[],
    }
}

/// Sent with every request. Microsoft tells partners apart by it, and without the preference values
/// that came later read `unknownFutureValue`.
pub(crate) const HEADERS: &[(&str, &str)] = &[
    (
        "user-agent",
        concat!(
            "MdatpPartner-SentinelConnector-SentinelConnector/",
            env!("CARGO_PKG_VERSION")
        ),
    ),
    ("prefer", "include-unknown-enum-members"),
];

/// Where and as whom to ask.
#[derive(Debug, Clone)]
pub struct Account {
    /// The tenant's id or domain.
    pub tenant: String,
    /// Who asks, as far as it is known: the app's client id.
    pub client: String,
    /// Where Defender for Endpoint answers, without a slash at the end.
    pub mde_url: String,
    /// The scope of its tokens.
    pub mde_scope: String,
    /// Where Defender XDR answers.
    pub xdr_url: String,
    /// The scope of its tokens.
    pub xdr_scope: String,
    /// Where Microsoft Graph answers.
    pub graph_url: String,
    /// The scope of its tokens.
    pub graph_scope: String,
    /// Which vulnerabilities are wanted; all of them when it is empty.
    pub severities: Vec<String>,
    /// Alerts of Defender for Endpoint are followed, and those of no other product.
    pub endpoint_alerts: bool,
}

impl Account {
    fn url(&self, api: &str) -> &str {
        match api {
            GRAPH | HUNTING => &self.graph_url,
            XDR => &self.xdr_url,
            _ => &self.mde_url,
        }
    }

    fn scope(&self, api: &str) -> &str {
        match api {
            GRAPH | HUNTING => &self.graph_scope,
            XDR => &self.xdr_scope,
            _ => &self.mde_scope,
        }
    }
}

/// What alerts of Defender for Endpoint say in `serviceSource`: Graph's, and those in an incident of
/// the XDR API, which knows it by its old name.
pub const ENDPOINT_PRODUCT: &[&str] = &["microsoftDefenderForEndpoint", "MicrosoftDefenderATP"];

/// Tenant, app and API.
type Key = (String, String, &'static str);

/// What the connections of a process share.
#[derive(Default)]
pub struct Quotas {
    /// One rate limit for each tenant, app and API.
    limiters: Mutex<HashMap<Key, Arc<Limiter>>>,
    /// Until when each tenant's share of hunting is used up.
    rests: Mutex<HashMap<String, Arc<Rest>>>,
}

/// Until when something has to rest.
#[derive(Default)]
pub(crate) struct Rest(Mutex<Option<DateTime<Utc>>>);

impl Rest {
    pub(crate) fn until(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, until: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Quotas {
    fn rest(&self, tenant: &str) -> Arc<Rest> {
        let mut held = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(tenant.to_owned()).or_default())
    }

    fn of(&self, account: &Account, api: &'static str, clock: &SharedClock) -> Arc<Limiter> {
        let key = (account.tenant.clone(), account.client.clone(), api);
        let mut held = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = held
            .entry(key)
            .or_insert_with(|| Arc::new(Limiter::per_period(quotas(api), Arc::clone(clock))));
        Arc::clone(limiter)
    }
}

/// What requests are sent and timed with.
#[derive(Clone)]
pub struct Wire {
    /// The network, or what stands for it.
    pub transport: SharedTransport,
    /// The time.
    pub clock: SharedClock,
    /// Numbers in `0.0..1.0`, for waits.
    pub random: Random,
}

/// What the streams of a connection share.
pub struct Connection {
    account: Account,
    tokens: SharedTokens,
    askers: HashMap<&'static str, Asker>,
    clock: SharedClock,
    hunting: Arc<Rest>,
}

impl Connection {
    /// A connection for `account`.
    pub fn new(account: Account, tokens: &SharedTokens, quotas: &Quotas, wire: &Wire) -> Arc<Self> {
        let asker = |api: &'static str| {
            let asker = Asker::new(
                Arc::clone(&wire.transport),
                Arc::clone(&wire.clock),
                Arc::clone(&wire.random),
                quotas.of(&account, api, &wire.clock),
            );
            if api == FILES {
                return (api, asker);
            }
            let scoped = Scoped::new(Arc::clone(tokens), account.scope(api));
            (api, asker.with_tokens(Arc::new(scoped)))
        };
        let apis = [MDE, BY_MACHINE, EXPORT, GRAPH, XDR, HUNTING, FILES];
        Arc::new(Self {
            askers: apis.map(asker).into(),
            hunting: quotas.rest(&account.tenant),
            account,
            tokens: Arc::clone(tokens),
            clock: Arc::clone(&wire.clock),
        })
    }

    /// The tenant that it reads.
    pub fn tenant(&self) -> &str {
        &self.account.tenant
    }

    /// True when alerts of this product (`serviceSource`) are followed, so that their closing is
    /// known.
    pub fn follows(&self, product: &str) -> bool {
        let mut names = ENDPOINT_PRODUCT.iter();
        !self.account.endpoint_alerts || names.any(|name| product.eq_ignore_ascii_case(name))
    }

    /// Until when the tenant's share of hunting is used up.
    pub(crate) fn hunting_rest(&self) -> &Rest {
        &self.hunting
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The scope of the token that opens an endpoint's API.
    pub fn scope(&self, endpoint: &Endpoint) -> &str {
        self.account.scope(endpoint.domain)
    }

    /// The application roles that none of these endpoints needs, which one token opens. A token that
    /// can't be looked into says nothing; one of Graph is not looked into, as Microsoft asks (defender.md 1).
    pub async fn roles_beyond(&self, endpoints: &[&Endpoint]) -> Result<Vec<Beyond>> {
        let Some(first) = endpoints.first() else {
            return Ok(Vec::new());
        };
        let mut opens: Vec<_> = endpoints.iter().map(|endpoint| endpoint.roles).collect();
        if endpoints.iter().any(|one| one.stream == MACHINES.stream) {
            opens.push(users::ROLES);
        }
        let token = self.tokens.token(self.scope(first)).await?;
        if matches!(first.domain, GRAPH | HUNTING) {
            return Ok(Vec::new());
        }
        let held = roles::claimed(token.expose_secret()).unwrap_or_default();
        Ok(roles::beyond(&held, &opens))
    }

    pub(crate) async fn ask(
        &self,
        api: &str,
        question: &Question,
        limits: &Limits,
    ) -> Result<Reply> {
        match self.askers.get(api) {
            Some(asker) => asker.ask(question, limits).await,
            None => Ok(Reply::NotOffered(format!("there is no API `{api}`"))),
        }
    }

    pub(crate) fn url(&self, api: &str, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.account.url(api))
    }
}

/// The hosts of the service, cloud by cloud: the next page may lie on another than was asked.
const TRUSTED: &[&[&str]] = &[
    &[
        ".security.microsoft.com",
        ".securitycenter.microsoft.com",
        ".securitycenter.windows.com",
    ],
    &[".securitycenter.microsoft.us", ".security.microsoft.us"],
];

/// True when a link that an answer of `base` holds leads to where the token may go.
fn admits(base: &str, link: &str) -> bool {
    let (Ok(link), Ok(base)) = (link.parse::<Uri>(), base.parse::<Uri>()) else {
        return false;
    };
    let same = link.scheme() == base.scheme() && link.authority() == base.authority();
    let (host, base_host) = (
        link.host().unwrap_or_default(),
        base.host().unwrap_or_default(),
    );
    let is_of = |cloud: &[&str], host: &str| cloud.iter().any(|suffix| host.ends_with(suffix));
    let mut clouds = TRUSTED.iter();
    let one_cloud = clouds.any(|cloud| is_of(cloud, host) && is_of(cloud, base_host));
    same || link.scheme_str() == Some("https") && link.port().is_none() && one_cloud
}

/// A question as these services want it to be asked.
pub(crate) fn get(name: &str, url: String, asks: Asks, has_position: bool) -> Question {
    Question {
        name: name.to_owned(),
        method: Method::GET,
        url,
        body: None,
        has_position,
        manner: Manner {
            headers: HEADERS,
            asks: Some(asks),
            ..Manner::default()
        },
    }
}

/// One stream of a connection.
pub struct Defender {
    connection: Arc<Connection>,
    endpoint: &'static Endpoint,
    exports: Exports,
    /// What is expanded was too much for the service once: not asked for again in this process.
    bare: AtomicBool,
}

impl Defender {
    /// The stream that `endpoint` describes.
    pub fn new(connection: Arc<Connection>, endpoint: &'static Endpoint) -> Self {
        Self {
            connection,
            endpoint,
            exports: Exports::default(),
            bare: AtomicBool::new(false),
        }
    }

    /// What narrows a list down beside the time.
    fn clauses(&self) -> Vec<String> {
        let severities = &self.connection.account.severities;
        let by_severity = [VULNERABILITIES.stream, CATALOGUE.stream];
        if severities.is_empty() || !by_severity.contains(&self.endpoint.stream) {
            return Vec::new();
        }
        let clauses = severities.iter().map(|one| format!("severity eq '{one}'"));
        vec![clauses.collect::<Vec<_>>().join(" or ")]
    }

    /// The page, without what is expanded once that was too much.
    fn lighter(&self, slice: &Slice, page: &str) -> String {
        let Some(window) = slice.window() else {
            return page.to_owned();
        };
        let mut part = Part::of(window, page);
        if part.bare {
            self.bare.store(true, Ordering::Relaxed);
        }
        part.bare |= self.bare.load(Ordering::Relaxed);
        part.to_string()
    }
}

#[async_trait]
impl Source for Defender {
    fn endpoint(&self) -> &'static Endpoint {
        self.endpoint
    }

    async fn page(
        &self,
        slice: &Slice,
        page: &str,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)> {
        let list = self.endpoint.list(slice);
        let name = self.endpoint.stream;
        if list.paging == Paging::Files {
            let url = page_query(list, slice, "", &[]);
            let question = get(name, self.connection.url(EXPORT, &url), Asks::List, false);
            let file = FilePage::of(page);
            let reply = self.exports.page(&self.connection, &question, file, limits);
            return Ok((reply.await?, list.records));
        }
        let api = self.endpoint.domain;
        let is_heavy = self.endpoint.stream == INCIDENTS.stream
            && list.parameters.iter().any(|(name, _)| *name == "$expand");
        let question = if list.paging == Paging::Link && !page.is_empty() {
            if !admits(self.connection.account.url(api), page) {
                let refused = "the next page lies on a host that is not the service's";
                return Ok((Reply::PositionRefused(refused.to_owned()), list.records));
            }
            get(name, page.to_owned(), Asks::List, true)
        } else {
            let page = if is_heavy {
                self.lighter(slice, page)
            } else {
                page.to_owned()
            };
            let part = slice.window().map(|window| Part::of(window, &page));
            let bare = part.is_some_and(|part| part.bare);
            let asks = match list.paging {
                Paging::Skip { .. } => Asks::Snapshot,
                _ if is_heavy && !bare => Asks::Expanded,
                _ => Asks::List,
            };
            let skips = match list.paging {
                Paging::Skip { .. } => !page.is_empty(),
                _ => part.is_some_and(|part| part.skip > 0),
            };
            let url = page_query(list, slice, &page, &self.clauses());
            get(name, self.connection.url(api, &url), asks, skips)
        };
        let reply = self.connection.ask(api, &question, limits).await?;
        Ok((reply, list.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_belongs_to_tenant_app_and_api() {
        let account = |tenant: &str, client: &str| Account {
            tenant: tenant.to_owned(),
            client: client.to_owned(),
            mde_url: String::new(),
            mde_scope: String::new(),
            xdr_url: String::new(),
            xdr_scope: String::new(),
            graph_url: String::new(),
            graph_scope: String::new(),
            severities: Vec::new(),
            endpoint_alerts: false,
        };
        let clock: SharedClock = Arc::new(crate::io::clock::SystemClock);
        let quotas = Quotas::default();
        let of = |tenant, client, api| quotas.of(&account(tenant, client), api, &clock);
        let limiter = of("contoso", "app", MDE);
        assert!(Arc::ptr_eq(&limiter, &of("contoso", "app", MDE)));
        for other in [
            of("fabrikam", "app", MDE),
            of("contoso", "another", MDE),
            of("contoso", "app", GRAPH),
        ] {
            assert!(!Arc::ptr_eq(&limiter, &other));
        }
        // The share of hunting is the tenant's, whichever app asks.
        let rest = quotas.rest("contoso");
        assert!(Arc::ptr_eq(&rest, &quotas.rest("contoso")));
        assert!(!Arc::ptr_eq(&rest, &quotas.rest("fabrikam")));
    }

    #[test]
    fn the_token_goes_to_no_foreign_host() {
        const GEO: &str = "https://eu.api.security.microsoft.com";
        const GOV: &str = "https://api-gov.securitycenter.microsoft.us";
        const GRAPH: &str = "https://graph.microsoft.com";
        for (base, link, admitted) in [
            (
                GEO,
                "https://eu.api.security.microsoft.com/api/x?$skiptoken=1",
                true,
            ),
            (GEO, "https://api.security.microsoft.com/api/x", true),
            (
                GEO,
                "https://api-eu3.securitycenter.microsoft.com/api/x",
                true,
            ),
            (GEO, "https://api.securitycenter.windows.com/api/x", true),
            (
                GOV,
                "https://api-gcc.securitycenter.microsoft.us/api/x",
                true,
            ),
            (GRAPH, "https://graph.microsoft.com/v1.0/x", true),
            (
                "https://sim:8443/defender",
                "https://sim:8443/defender/x",
                true,
            ),
            // Another host, however it is spelled.
            (GEO, "https://collector.example/api/x", false),
            (
                GEO,
                "https://api.security.microsoft.com.collector.example/x",
                false,
            ),
            (GEO, "https://api-security.microsoft.com/x", false),
            (
                GEO,
                "https://api.security.microsoft.com@collector.example/x",
                false,
            ),
            (
                GEO,
                "https://collector.example/?x=.security.microsoft.com",
                false,
            ),
            (
                GEO,
                "https://collector.example#.security.microsoft.com",
                false,
            ),
            (GEO, "https://wdatpprd.cloudapp.net/api/x", false),
            // Another cloud, port or protocol, or none.
            (
                GEO,
                "https://api-gov.securitycenter.microsoft.us/api/x",
                false,
            ),
            (GOV, "https://api.security.microsoft.com/api/x", false),
            (
                GEO,
                "https://eu.api.security.microsoft.com:8443/api/x",
                false,
            ),
            (GEO, "http://eu.api.security.microsoft.com/api/x", false),
            (GRAPH, "https://api.security.microsoft.com/api/x", false),
            ("https://sim:8443/defender", "https://sim/defender/x", false),
            (
                "https://sim",
                "https://api.security.microsoft.com/api/x",
                false,
            ),
            (GEO, "//api.security.microsoft.com/api/x", false),
            (GEO, "/api/x", false),
            (GEO, "", false),
        ] {
            assert_eq!(admits(base, link), admitted, "from {base} to {link}");
        }
    }
}
