//! The settings of a Defender connection → its streams, and what they leave out.

use std::sync::Arc;

use crate::{
    config::{AlertsApi, DefenderSettings, DefenderStream, IncidentsApi},
    core::{mapping::filter::Filter, protocol::endpoint::Endpoint},
    error::{Error, Result},
    source::{
        SharedSource,
        defender::{self, Account, Connection, Defender},
        hunting::{self, Hunting, HuntingTable},
    },
};

const OWN: Filter = Filter::Own("serviceSource");
const OWN_ROW: Filter = Filter::Own("ServiceSource");
/// Incidents, as far as they come with their alerts: one that other products have a part in is kept.
const OWN_ALONE: Filter = Filter::AllOwn("alerts", "serviceSource");
const OF_ENDPOINTS: Filter = Filter::SaysNot("serviceSource", defender::ENDPOINT_PRODUCT);
/// Incidents, as far as they come with their alerts.
const WITH_ENDPOINTS: Filter =
    Filter::NoneSays("alerts", "serviceSource", defender::ENDPOINT_PRODUCT);

/// Alerts of Graph, by whether Sentinel's own are wanted, and whether those of endpoints alone are.
fn alert_filters(settings: &DefenderSettings) -> &'static [Filter] {
    match (settings.sentinel_alerts, settings.endpoint_only) {
        (_, true) => &[OF_ENDPOINTS],
        (false, false) => &[OWN],
        (true, false) => &[],
    }
}

const EXPOSED: &[Filter] = &[Filter::NotPositive("exposedMachines")];
const NOT_RESOLVED: Filter = Filter::SaysBeforeSent("status", "resolved", "createdDateTime");
const XDR_NOT_RESOLVED: Filter = Filter::SaysBeforeSent("status", "Resolved", "createdTime");
/// Who leaves them out one day gets the closings of those that were sent until then.
const REMEMBERED: Filter = Filter::Remembered("createdDateTime");
const XDR_REMEMBERED: Filter = Filter::Remembered("createdTime");

/// Incidents, by whether Sentinel's own are wanted, whether resolved ones are left out, and those without
/// an alert of an endpoint. None of Sentinel's own has one.
fn incident_filters(settings: &DefenderSettings) -> &'static [Filter] {
    const GRAPH: [&[Filter]; 2] = [
        &[OWN_ALONE, WITH_ENDPOINTS, REMEMBERED],
        &[OWN_ALONE, WITH_ENDPOINTS, NOT_RESOLVED],
    ];
    const XDR: [&[Filter]; 2] = [
        &[OWN_ALONE, WITH_ENDPOINTS, XDR_REMEMBERED],
        &[OWN_ALONE, WITH_ENDPOINTS, XDR_NOT_RESOLVED],
    ];
    const WITHOUT_OWN: [&[Filter]; 4] = [
        &[OWN_ALONE, REMEMBERED],
        &[OWN_ALONE, NOT_RESOLVED],
        &[OWN_ALONE, XDR_REMEMBERED],
        &[OWN_ALONE, XDR_NOT_RESOLVED],
    ];
    let is_xdr = settings.incidents_api == IncidentsApi::Xdr;
    let resolved = usize::from(settings.ignore_resolved);
    let all = if is_xdr { XDR } else { GRAPH }[resolved];
    match (settings.endpoint_only, settings.sentinel_alerts) {
        (true, _) => &all[1..],
        (false, true) => &all[2..],
        (false, false) => WITHOUT_OWN[2 * usize::from(is_xdr) + resolved],
    }
}

/// The event tables' rows, by whether Sentinel's own alerts are wanted.
fn table_filters(settings: &DefenderSettings, table: &HuntingTable) -> &'static [Filter] {
    let has_alerts = matches!(table.name, "AlertInfo" | "AlertEvidence");
    if has_alerts && !settings.sentinel_alerts {
        &[OWN_ROW]
    } else {
        &[]
    }
}

/// Where and as whom to ask.
pub(super) fn account(settings: &DefenderSettings) -> Account {
    Account {
        tenant: settings.tenant_id.clone(),
        client: settings.client_id.clone().unwrap_or_default(),
        mde_url: settings.api_url.clone(),
        mde_scope: settings.api_scope.clone(),
        xdr_url: settings.xdr_url(),
        xdr_scope: settings.xdr_scope(),
        graph_url: settings.graph_url.clone(),
        graph_scope: settings.graph_scope(),
        severities: settings.severities.clone(),
        endpoint_alerts: settings.endpoint_only || settings.alerts_api == AlertsApi::Mde,
    }
}

/// The lists that the settings ask for, each with what it leaves out.
fn lists(settings: &DefenderSettings) -> Vec<(&'static Endpoint, &'static [Filter])> {
    let mut lists: Vec<(&'static Endpoint, &'static [Filter])> = Vec::new();
    for stream in &settings.streams {
        match stream {
            DefenderStream::Machines => lists.push((&defender::MACHINES, &[])),
            DefenderStream::Vulnerabilities => {
                lists.push((&defender::VULNERABILITIES, &[]));
                lists.push((&defender::CATALOGUE, EXPOSED));
            }
            DefenderStream::SoftwareVulnerabilities => {
                lists.push((&defender::SOFTWARE_VULNERABILITIES, &[]));
            }
            DefenderStream::Alerts => lists.push(match settings.alerts_api {
                AlertsApi::Graph => (&defender::ALERTS, alert_filters(settings)),
                AlertsApi::Mde => (&defender::MDE_ALERTS, &[]),
            }),
            DefenderStream::Incidents => {
                let endpoint = match settings.incidents_api {
                    IncidentsApi::Xdr => &defender::XDR_INCIDENTS,
                    IncidentsApi::Graph if settings.incident_alerts => {
                        &defender::INCIDENTS_WITH_ALERTS
                    }
                    IncidentsApi::Graph => &defender::INCIDENTS,
                };
                lists.push((endpoint, incident_filters(settings)));
            }
        }
    }
    lists
}

/// The endpoints of a connection's streams.
pub(super) fn endpoints(settings: &DefenderSettings) -> Result<Vec<&'static Endpoint>> {
    let tables = tables(settings)?.into_iter().map(|table| &table.endpoint);
    let lists = lists(settings).into_iter().map(|(endpoint, _)| endpoint);
    Ok(lists.chain(tables).collect())
}

/// The event tables of a connection.
fn tables(settings: &DefenderSettings) -> Result<Vec<&'static HuntingTable>> {
    let mut tables = named_tables(settings)?;
    tables.retain(|table| table.of_devices || !settings.endpoint_only);
    Ok(tables)
}

/// Whether incidents come without what would tell those that Sentinel itself has raised.
pub(super) fn hides_own_incidents(settings: &DefenderSettings) -> bool {
    settings.streams.contains(&DefenderStream::Incidents)
        && settings.incidents_api == IncidentsApi::Graph
        && !settings.incident_alerts
        && !settings.sentinel_alerts
}

/// Those that are named, but hold no data of endpoints, to which the settings keep.
pub(super) fn left_out(settings: &DefenderSettings) -> Vec<&'static str> {
    let mut tables = named_tables(settings).unwrap_or_default();
    tables.retain(|table| !table.of_devices && settings.endpoint_only);
    tables.into_iter().map(|table| table.name).collect()
}

/// The event tables that are named, each once.
fn named_tables(settings: &DefenderSettings) -> Result<Vec<&'static HuntingTable>> {
    let mut tables: Vec<&HuntingTable> = Vec::new();
    for name in &settings.hunting_tables {
        let table = hunting::table(name).ok_or_else(|| {
            let tables: Vec<&str> = hunting::tables().iter().map(|table| table.name).collect();
            Error::config(format!(
                "`DEFENDER_HUNTING_TABLES` names `{name}`, which there is not; there are {}",
                tables.join(", ")
            ))
        })?;
        if !tables.iter().any(|known| known.name == table.name) {
            tables.push(table);
        }
    }
    Ok(tables)
}

/// The streams of a connection.
pub(super) fn streams(
    settings: &DefenderSettings,
    connection: &Arc<Connection>,
) -> Result<Vec<(SharedSource, &'static [Filter])>> {
    let mut streams: Vec<(SharedSource, &'static [Filter])> = Vec::new();
    for (endpoint, filters) in lists(settings) {
        let source = Defender::new(Arc::clone(connection), endpoint);
        streams.push((Arc::new(source), filters));
    }
    for table in tables(settings)? {
        let source = Hunting::new(Arc::clone(connection), table);
        streams.push((Arc::new(source), table_filters(settings, table)));
    }
    Ok(streams)
}
