//! Microsoft Defender: devices, vulnerabilities, alerts and incidents, from the APIs of Defender for
//! Endpoint (MDE), Defender XDR and Microsoft Graph.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use http::Method;
use secrecy::ExposeSecret;

use super::{Remark, SharedSource, Source, SourceConnection};
use crate::{
    core::{
        mapping::assets::answer::User,
        position::{
            cursor::Slice,
            paging::{Page, Paging},
        },
        protocol::{
            choice::Choices,
            endpoint::Endpoint,
            odata::{ErrorDialect, page_query},
            roles::{self, Beyond},
        },
    },
    error::Result,
    io::{
        clock::SharedClock,
        exchange::{ApiClient, ApiRequest, Reply, RequestOptions},
        retry::Limits,
        token::SharedTokens,
        wire::Wire,
    },
};

mod endpoints;
mod evidence;
mod export;
pub mod hunting;
mod links;
mod quotas;
mod users;

pub use endpoints::{
    ALERTS, CATALOGUE, ENDPOINT_PRODUCT, ENDPOINTS, INCIDENTS, INCIDENTS_WITH_ALERTS, MACHINES,
    MDE_ALERTS, SOFTWARE_VULNERABILITIES, VULNERABILITIES, XDR_INCIDENTS, follows_endpoints_alone,
};
pub(crate) use endpoints::{WITHOUT_SENTINEL, plain};
pub use quotas::Quotas;

use endpoints::hides_own_incidents;
use export::Exports;
use hunting::Hunting;
use links::admits;
use quotas::Rest;

/// The APIs, as endpoints name them. Each has quotas of its own (`docs/contracts/defender.md`,
/// *Quotas*).
pub(crate) const MDE: &str = "mde";
pub(crate) const BY_MACHINE: &str = "mde by machine";
pub(crate) const EXPORT: &str = "mde export";
pub(crate) const GRAPH: &str = "graph";
pub(crate) const XDR: &str = "xdr";
pub(crate) const HUNTING: &str = "hunting";
/// Files behind links of their own, which want no token.
pub(crate) const FILES: &str = "files";

/// What follows from the choices of a connection, and nobody would expect.
pub(super) fn remarks(choices: &Choices) -> Vec<Remark> {
    let tables = hunting::left_out(choices);
    let left_out = (!tables.is_empty()).then(|| Remark {
        setting: "DEFENDER_HUNTING_TABLES",
        text: format!(
            "`DEFENDER_ENDPOINT_ONLY` leaves out {}: no tables of devices",
            tables.join(", ")
        ),
    });
    let hidden = hides_own_incidents(choices).then(|| Remark {
        setting: "DEFENDER_INCIDENT_ALERTS",
        text: "incidents come without their alerts, so that those which Sentinel itself has raised are \
               told only as far as `defender.alerts` of Graph has read their alerts before; others land \
               as well; yes leaves all of them out"
            .to_owned(),
    });
    left_out.into_iter().chain(hidden).collect()
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

/// What the streams of a connection share.
pub struct Connection {
    account: Account,
    tokens: SharedTokens,
    askers: HashMap<&'static str, ApiClient>,
    wire: Wire,
    hunting: Arc<Rest>,
}

impl Connection {
    /// A connection for `account`.
    pub fn new(account: Account, tokens: &SharedTokens, quotas: &Quotas, wire: &Wire) -> Arc<Self> {
        let asker = |api: &'static str| {
            let asker = ApiClient::new(wire.clone(), quotas.of(&account, api, &wire.clock));
            if api == FILES {
                return (api, asker);
            }
            let scope = account.scope(api);
            (api, asker.with_tokens(Arc::clone(tokens), scope))
        };
        let apis = [MDE, BY_MACHINE, EXPORT, GRAPH, XDR, HUNTING, FILES];
        Arc::new(Self {
            askers: apis.map(asker).into(),
            hunting: quotas.rest(&account.tenant),
            account,
            tokens: Arc::clone(tokens),
            wire: wire.clone(),
        })
    }

    /// Until when the tenant's share of hunting is used up.
    pub(crate) fn hunting_rest(&self) -> &Rest {
        &self.hunting
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.wire.clock
    }

    fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(crate) async fn ask(
        &self,
        api: &str,
        question: &ApiRequest,
        limits: &Limits,
    ) -> Result<Reply> {
        match self.askers.get(api) {
            Some(asker) => asker.ask(question, limits).await,
            None => Ok(Reply::NotOffered(format!("there is no API `{api}`").into())),
        }
    }

    pub(crate) fn url(&self, api: &str, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.account.url(api))
    }
}

#[async_trait]
impl SourceConnection for Connection {
    fn stream(self: Arc<Self>, endpoint: &'static Endpoint) -> SharedSource {
        match Hunting::of(&self, endpoint) {
            Some(table) => Arc::new(table),
            None => Arc::new(Defender::new(self, endpoint)),
        }
    }

    fn issuer(&self) -> &'static str {
        "Entra"
    }

    /// The application whose roles open an endpoint's API, as portals call it.
    fn resource(&self, endpoint: &Endpoint) -> Option<&'static str> {
        Some(match endpoint.domain {
            GRAPH | HUNTING => "Microsoft Graph",
            XDR => "Microsoft Threat Protection",
            _ => "WindowsDefenderATP",
        })
    }

    /// A token that can't be looked into says nothing; one of Graph is not looked into, as Microsoft asks
    /// (`docs/contracts/defender.md`, *Hosts and tokens*).
    async fn log_in(&self, endpoints: &[&Endpoint], limits: &Limits) -> Result<Vec<Beyond>> {
        let Some(first) = endpoints.first() else {
            return Ok(Vec::new());
        };
        let mut opens: Vec<_> = endpoints.iter().map(|endpoint| endpoint.roles).collect();
        opens.extend(endpoints.iter().flat_map(|endpoint| endpoint.extra_roles));
        let scope = self.account.scope(first.domain);
        let token = self.tokens.token(scope, None, limits).await?;
        if matches!(first.domain, GRAPH | HUNTING) {
            return Ok(Vec::new());
        }
        let held = roles::claimed(token.expose_secret()).unwrap_or_default();
        Ok(roles::beyond(&held, &opens))
    }

    /// Products as `serviceSource` names them.
    fn follows(&self, product: &str) -> bool {
        let mut names = ENDPOINT_PRODUCT.iter();
        !self.account.endpoint_alerts || names.any(|name| product.eq_ignore_ascii_case(name))
    }

    async fn logon_users(
        &self,
        machine: &str,
        limits: &Limits,
    ) -> Result<std::result::Result<Vec<User>, String>> {
        self.users_of(machine, limits).await
    }
}

/// A question as these services want it to be asked.
pub(crate) fn get(name: &str, url: String, asks: ErrorDialect, has_position: bool) -> ApiRequest {
    ApiRequest {
        name: name.to_owned(),
        method: Method::GET,
        url,
        body: None,
        has_position,
        manner: RequestOptions {
            headers: HEADERS,
            asks: Some(asks),
            ..RequestOptions::default()
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
        let severities = self.connection.account.severities.iter();
        let clauses: Vec<String> = match self.endpoint.narrow {
            Some(member) => severities
                .map(|one| format!("{member} eq '{one}'"))
                .collect(),
            None => Vec::new(),
        };
        // One clause, which no other takes apart.
        (!clauses.is_empty())
            .then(|| clauses.join(" or "))
            .into_iter()
            .collect()
    }

    /// The page, without what is expanded once that was too much.
    fn lighter(&self, slice: &Slice, page: &Page) -> Page {
        let Some(window) = slice.window() else {
            return page.clone();
        };
        let mut part = page.part(window);
        if part.bare {
            self.bare.store(true, Ordering::Relaxed);
        }
        part.bare |= self.bare.load(Ordering::Relaxed);
        part.into()
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
        page: &Page,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)> {
        let list = self.endpoint.list_of(slice);
        let name = self.endpoint.stream;
        if list.paging == Paging::Files {
            let url = page_query(list, slice, &Page::First, &[]);
            let question = get(
                name,
                self.connection.url(EXPORT, &url),
                ErrorDialect::List,
                false,
            );
            let file = match page {
                Page::File(file) => Some(file),
                _ => None,
            };
            let reply = self.exports.page(&self.connection, &question, file, limits);
            return Ok((reply.await?, list.records));
        }
        let api = self.endpoint.domain;
        let is_heavy = list.droppable.is_some();
        let question = if let Some(link) = page.link() {
            if !admits(self.connection.account.url(api), link) {
                let refused = "the next page lies on a host that is not the service's";
                return Ok((
                    Reply::PositionRefused(refused.to_owned().into()),
                    list.records,
                ));
            }
            get(name, link.to_owned(), ErrorDialect::List, true)
        } else {
            let page = if is_heavy {
                self.lighter(slice, page)
            } else {
                page.clone()
            };
            let part = slice.window().map(|window| page.part(window));
            let bare = part.is_some_and(|part| part.bare);
            let asks = match list.paging {
                Paging::Skip { .. } => ErrorDialect::Snapshot,
                _ if is_heavy && !bare => ErrorDialect::Expanded,
                _ => ErrorDialect::List,
            };
            let skips = match list.paging {
                Paging::Skip { .. } => !page.is_first(),
                _ => part.is_some_and(|part| part.skip > 0),
            };
            let url = page_query(list, slice, &page, &self.clauses());
            get(name, self.connection.url(api, &url), asks, skips)
        };
        let reply = self.connection.ask(api, &question, limits).await?;
        Ok((reply, list.records))
    }
}
