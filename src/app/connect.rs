//! The settings of a connection → its source, or why there is none.

use std::{collections::BTreeSet, sync::Arc};

use super::{Function, build::Builder};
use crate::{
    config::{self, BrokenConnection, DefenderSettings},
    core::{
        mapping::{filter::Filter, wanted::WantedRecords},
        position::cursor::StreamKey,
        protocol::{choice::Choices, endpoint::Endpoint, source_kind::SourceKind},
    },
    error::{Error, Result},
    io::{expiry::Expiring, wire::Wire},
    source::{
        SourceConnection,
        defender::{self, Quotas},
        endpoints, endpoints_of,
        eset::{self, Account, LookUps},
    },
};

/// A connection of the settings, to its source.
pub(super) struct Connected {
    pub(super) name: String,
    pub(super) kind: SourceKind,
    pub(super) connection: Arc<dyn SourceConnection>,
}

/// A connection of which nothing can be pulled until somebody acts.
pub(super) struct Refused {
    pub(super) kind: Option<SourceKind>,
    pub(super) streams: Vec<StreamKey>,
    pub(super) error: Error,
    /// The settings alone tell it.
    pub(super) by_settings: bool,
}

impl Refused {
    /// True when this function tells of it: each does, where the kind is not known.
    pub(super) fn is_of(&self, function: Function) -> bool {
        match self.kind {
            Some(kind) => function == Function::Pull(kind),
            None => matches!(function, Function::Pull(_)),
        }
    }

    pub(super) fn of(broken: &BrokenConnection) -> Self {
        let error = broken.error();
        Self {
            by_settings: true,
            ..Self::new(&broken.name, broken.kind, &broken.choices, error)
        }
    }

    pub(super) fn new(
        name: &str,
        kind: Option<SourceKind>,
        choices: &Choices,
        error: Error,
    ) -> Self {
        let endpoints = kind.into_iter().flat_map(endpoints_of);
        let wanted = endpoints.filter(|endpoint| endpoint.switch.is_on(choices));
        let mut streams: Vec<&str> = wanted.map(|endpoint| endpoint.stream).collect();
        // Somebody has to hear of it, whatever it would pull.
        if streams.is_empty() {
            streams.push(kind.map_or("connection", SourceKind::word));
        }
        let key = |stream| StreamKey::new(name, stream);
        Self {
            kind,
            streams: streams.into_iter().map(key).collect(),
            error,
            by_settings: false,
        }
    }
}

/// What connections have been given together.
#[derive(Default)]
pub(super) struct Shared {
    quotas: Quotas,
    accounts: Vec<Arc<eset::Connection>>,
}

/// A connection, and what it signs in with that ends one day.
pub(super) type SignedIn = (Arc<dyn SourceConnection>, Arc<[Expiring]>);

/// One match: how a source is connected to.
pub(super) fn connected(
    one: &config::Connection,
    wire: &Wire,
    builder: &Builder<'_>,
    shared: &mut Shared,
) -> Result<SignedIn> {
    match &one.source {
        config::Source::Eset(settings) => {
            let password = builder.password(&settings.password);
            let expiring = builder.expiring(&settings.password, &password);
            let account = Account {
                url_template: settings.base_url("{domain}"),
                login: settings.login.clone(),
                password,
                calls_per_second: settings.max_calls_per_second,
                look_ups: LookUps::of(&one.choices),
            };
            let mut others = shared.accounts.iter();
            let connection = match others.find(|other| other.is_account(&account)) {
                Some(other) => eset::Connection::beside(other, account, wire.clone()),
                None => eset::Connection::new(account, wire.clone()),
            };
            shared.accounts.push(Arc::clone(&connection));
            Ok((connection, expiring))
        }
        config::Source::Defender(settings) => {
            let (tokens, expiring) = builder.defender(settings)?;
            let account = defender_account(settings, &one.choices);
            let connection = defender::Connection::new(account, &tokens, &shared.quotas, wire);
            Ok((connection, expiring))
        }
    }
}

/// What connections to this source share: the service counts the calls of an account of ESET together,
/// and those in a tenant of Defender by app, but hunting whichever app asks.
pub(super) fn shared_by(source: &config::Source) -> String {
    match source {
        config::Source::Eset(eset) => format!("{} {}", eset.base_url("{domain}"), eset.login),
        config::Source::Defender(defender) => defender.tenant_id.to_ascii_lowercase(),
    }
}

/// The filters of an endpoint: those that choices call for, and the one of its stream.
pub(super) fn filters_of(one: &config::Connection, endpoint: &Endpoint) -> Vec<Filter> {
    let mut filters = endpoint.filters_for(&one.choices);
    let wanted = one.streams.wanted(endpoint.stream);
    let unwanted =
        |(_, wanted): (_, &WantedRecords)| Filter::Unwanted(wanted.clone(), endpoint.tellers);
    // Last: what it leaves out depends on the others.
    filters.extend(wanted.map(unwanted));
    filters
}

/// Whether filters ask for what these endpoints tell. Nothing is pulled with one that does not: it would
/// bring what nobody wants to pay for.
pub(super) fn can_filter(one: &config::Connection, wanted: &[&Endpoint]) -> Result<()> {
    let streams: Vec<&str> = endpoints().map(|endpoint| endpoint.stream).collect();
    let mut unknown = one.streams.unknown(&streams).into_iter();
    if let Some(problem) = unknown.find(|problem| problem.setting.ends_with("_FILTER")) {
        return Err(Error::config(problem.to_string()));
    }
    for endpoint in wanted {
        let Some((setting, filter)) = one.streams.wanted(endpoint.stream) else {
            continue;
        };
        let Some(untold) = filter.untold(endpoint.tellers) else {
            continue;
        };
        let told: BTreeSet<&str> = endpoint
            .tellers
            .iter()
            .map(|(field, _)| field.word())
            .collect();
        let told = if told.is_empty() {
            "none of these".to_owned()
        } else {
            Vec::from_iter(told).join(", ")
        };
        return Err(Error::config(format!(
            "`{setting}` asks for `{}`, which records of `{}` do not tell: they tell {told}",
            untold.word(),
            endpoint.stream
        )));
    }
    Ok(())
}

/// Where and as whom to ask.
fn defender_account(settings: &DefenderSettings, choices: &Choices) -> defender::Account {
    defender::Account {
        tenant: settings.tenant_id.clone(),
        client: settings.client_id.clone().unwrap_or_default(),
        mde_url: settings.api_url.clone(),
        mde_scope: settings.api_scope.clone(),
        xdr_url: settings.xdr_url(),
        xdr_scope: settings.xdr_scope(),
        graph_url: settings.graph_url.clone(),
        graph_scope: settings.graph_scope(),
        severities: settings.severities.clone(),
        endpoint_alerts: defender::follows_endpoints_alone(choices),
    }
}
