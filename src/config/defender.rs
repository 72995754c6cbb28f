//! The settings of a Defender connection.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    azure::{self, SecretSource},
    reader::{Read, Reader},
    values,
};

/// Where Defender for Endpoint and Defender XDR answer, and Microsoft Graph, in the public cloud.
const API_URL: &str = "https://api.security.microsoft.com";
const GRAPH_URL: &str = "https://graph.microsoft.com";

/// The scope of tokens for Defender for Endpoint. It does not follow the host.
const API_SCOPE: &str = "https://api.securitycenter.microsoft.com/.default";

/// Hosts by region or cloud (`docs/contracts/defender.md`, *Hosts and tokens*).
const HOSTS: &[(&str, &str)] = &[
    ("us", "https://us.api.security.microsoft.com"),
    ("eu", "https://eu.api.security.microsoft.com"),
    ("uk", "https://uk.api.security.microsoft.com"),
    ("au", "https://au.api.security.microsoft.com"),
    ("swa", "https://swa.api.security.microsoft.com"),
    ("ina", "https://ina.api.security.microsoft.com"),
    ("aea", "https://aea.api.security.microsoft.com"),
    ("gcc", "https://api-gcc.securitycenter.microsoft.us"),
    ("gcc-high", "https://api-gov.securitycenter.microsoft.us"),
    ("dod", "https://api-gov.securitycenter.microsoft.us"),
];

const STREAMS: &[(&str, DefenderStream)] = &[
    ("machines", DefenderStream::Machines),
    ("vulnerabilities", DefenderStream::Vulnerabilities),
    (
        "software-vulnerabilities",
        DefenderStream::SoftwareVulnerabilities,
    ),
    ("alerts", DefenderStream::Alerts),
    ("incidents", DefenderStream::Incidents),
];

const SEVERITIES: &[(&str, &str)] = &[
    ("low", "Low"),
    ("medium", "Medium"),
    ("high", "High"),
    ("critical", "Critical"),
];

/// What is pulled beside the hunting tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefenderStream {
    /// Devices.
    Machines,
    /// Vulnerabilities by device and software, and what is known of them.
    Vulnerabilities,
    /// Software vulnerabilities by device, with their changes.
    SoftwareVulnerabilities,
    /// Alerts.
    Alerts,
    /// Incidents.
    Incidents,
}

impl DefenderStream {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Machines,
        Self::Vulnerabilities,
        Self::SoftwareVulnerabilities,
        Self::Alerts,
        Self::Incidents,
    ];
}

/// Which API brings alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertsApi {
    /// Microsoft Graph: those of all products.
    Graph,
    /// Defender for Endpoint.
    Mde,
}

/// Which API brings incidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentsApi {
    /// Microsoft Graph.
    Graph,
    /// Defender XDR.
    Xdr,
}

/// How one Defender tenant is read.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub struct DefenderSettings {
    /// `DEFENDER_TENANT_ID`. Required.
    pub tenant_id: String,
    /// `DEFENDER_CLIENT_ID`: the app registration, or without a secret a user-assigned identity.
    pub client_id: Option<String>,
    /// `DEFENDER_CLIENT_SECRET`; of a connection `contoso` `CONTOSO_DEFENDER_CLIENT_SECRET`, or in
    /// the vault as `contoso-defender-client-secret`. None: a certificate, or an identity.
    pub client_secret: Option<SecretSource>,
    /// `DEFENDER_CLIENT_CERTIFICATE_PATH`.
    pub client_certificate: Option<PathBuf>,
    /// `DEFENDER_API_URL`; a short name such as `eu`, or a URL.
    pub api_url: String,
    /// `DEFENDER_API_SCOPE`.
    pub api_scope: String,
    /// `GRAPH_URL`.
    pub graph_url: String,
    /// `DEFENDER_STREAMS`; machines, alerts and incidents by default, and empty when it is `none`.
    pub streams: BTreeSet<DefenderStream>,
    /// `DEFENDER_HUNTING_TABLES`, as they were written; none by default.
    pub hunting_tables: Vec<String>,
    /// `DEFENDER_VULNERABILITY_SEVERITIES`, as the API spells them; empty means all.
    pub severities: Vec<String>,
    /// `DEFENDER_IGNORE_RESOLVED_INCIDENTS`, no by default.
    pub ignore_resolved: bool,
    /// `DEFENDER_SENTINEL_ALERTS`, no by default: they come from Sentinel itself.
    pub sentinel_alerts: bool,
    /// `DEFENDER_INCIDENT_ALERTS`, no by default: incidents from Graph bring their alerts along.
    pub incident_alerts: bool,
    /// `DEFENDER_ENDPOINT_ONLY`, no by default.
    pub endpoint_only: bool,
    /// `DEFENDER_ALERTS_API`, `graph` by default.
    pub alerts_api: AlertsApi,
    /// `DEFENDER_INCIDENTS_API`, `graph` by default.
    pub incidents_api: IncidentsApi,
}

impl DefenderSettings {
    /// True when somebody wanted a Defender connection.
    pub(super) fn wanted(reader: &Reader<'_>) -> bool {
        [
            "DEFENDER_TENANT_ID",
            "DEFENDER_CLIENT_ID",
            "DEFENDER_CLIENT_SECRET",
        ]
        .iter()
        .any(|name| reader.is_set(name))
    }

    /// Where Defender XDR answers. Its host belongs to the same cloud, and has no regions.
    pub fn xdr_url(&self) -> String {
        let host = self.api_url.strip_prefix("https://").unwrap_or_default();
        match host {
            _ if host.ends_with(".microsoft.com") => API_URL.to_owned(),
            _ if host.ends_with(".microsoft.us") => {
                format!("https://{}", host.replace("securitycenter", "security"))
            }
            _ => self.api_url.clone(),
        }
    }

    /// The scope of tokens for Defender XDR.
    pub fn xdr_scope(&self) -> String {
        let url = self.xdr_url();
        let known = url.ends_with(".microsoft.com") || url.ends_with(".microsoft.us");
        format!("{}/.default", if known { &url } else { API_URL })
    }

    /// The scope of tokens for Microsoft Graph.
    pub fn graph_scope(&self) -> String {
        let known = [".microsoft.com", ".microsoft.us"]
            .iter()
            .any(|ending| self.graph_url.ends_with(ending));
        let resource = if known { &self.graph_url } else { GRAPH_URL };
        format!("{resource}/.default")
    }

    /// Reads everything before it gives up, so that all problems are noted.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        secret: impl FnOnce(&mut Reader<'_>) -> Read<Option<SecretSource>>,
    ) -> Read<Self> {
        let tenant_id = reader.required("DEFENDER_TENANT_ID", azure::tenant);
        let client_id = reader.optional("DEFENDER_CLIENT_ID", azure::client);
        let client_secret = secret(reader);
        let client_certificate = reader.optional("DEFENDER_CLIENT_CERTIFICATE_PATH", super::path);
        let api_url = reader.or("DEFENDER_API_URL", API_URL.to_owned(), host);
        let api_scope = reader.or("DEFENDER_API_SCOPE", API_SCOPE.to_owned(), values::text);
        let graph_url = reader.or("GRAPH_URL", GRAPH_URL.to_owned(), values::url);
        let usual = [
            DefenderStream::Machines,
            DefenderStream::Alerts,
            DefenderStream::Incidents,
        ];
        let streams = reader.or("DEFENDER_STREAMS", usual.into(), |list| {
            if list.eq_ignore_ascii_case("none") {
                return Ok(BTreeSet::new());
            }
            each(list, values::one_of(STREAMS)).map(BTreeSet::from_iter)
        });
        let hunting_tables = reader.or("DEFENDER_HUNTING_TABLES", Vec::new(), |list| {
            each(list, values::text)
        });
        let severities = reader.or("DEFENDER_VULNERABILITY_SEVERITIES", Vec::new(), |list| {
            each(list, values::one_of(SEVERITIES))
        });
        let flag = |reader: &mut Reader<'_>, name: &str| reader.or(name, false, values::yes_or_no);
        let ignore_resolved = flag(reader, "DEFENDER_IGNORE_RESOLVED_INCIDENTS");
        let sentinel_alerts = flag(reader, "DEFENDER_SENTINEL_ALERTS");
        let incident_alerts = flag(reader, "DEFENDER_INCIDENT_ALERTS");
        let endpoint_only = flag(reader, "DEFENDER_ENDPOINT_ONLY");
        let alerts_api = reader.or(
            "DEFENDER_ALERTS_API",
            AlertsApi::Graph,
            values::one_of(&[("graph", AlertsApi::Graph), ("mde", AlertsApi::Mde)]),
        );
        let incidents_api = reader.or(
            "DEFENDER_INCIDENTS_API",
            IncidentsApi::Graph,
            values::one_of(&[("graph", IncidentsApi::Graph), ("xdr", IncidentsApi::Xdr)]),
        );

        let (client_id, client_secret) = (client_id?, client_secret?);
        let client_certificate = client_certificate?;
        let has_proof = client_secret.is_some() || client_certificate.is_some();
        if has_proof && client_id.is_none() {
            return Err(reader.missing("DEFENDER_CLIENT_ID"));
        }
        Ok(Self {
            tenant_id: tenant_id?,
            client_id,
            client_secret,
            client_certificate,
            api_url: api_url?,
            api_scope: api_scope?,
            graph_url: graph_url?,
            streams: streams?,
            hunting_tables: hunting_tables?,
            severities: severities?.into_iter().map(str::to_owned).collect(),
            ignore_resolved: ignore_resolved?,
            sentinel_alerts: sentinel_alerts?,
            incident_alerts: incident_alerts?,
            endpoint_only: endpoint_only?,
            alerts_api: alerts_api?,
            incidents_api: incidents_api?,
        })
    }
}

/// A list's elements, separated by commas.
fn each<T>(list: &str, parse: impl Fn(&str) -> values::Parsed<T>) -> values::Parsed<Vec<T>> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .map(parse)
        .collect()
}

/// A short name, or a URL.
fn host(value: &str) -> values::Parsed<String> {
    let named = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(value);
    if let Some((_, url)) = HOSTS.iter().find(named) {
        return Ok((*url).to_owned());
    }
    values::url(value).map_err(|text| {
        let names: Vec<&str> = HOSTS.iter().map(|(name, _)| *name).collect();
        format!("{text}, or be one of {}", names.join(", "))
    })
}
