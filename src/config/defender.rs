//! The settings of a Defender connection.

use std::path::PathBuf;

use super::{
    azure::{self, FederatedIdentity, SecretSource},
    reader::{Read, Reader},
    values,
};
use crate::core::protocol::choice::Choices;

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

const STREAMS: &[(&str, &str)] = &[
    ("machines", "machines"),
    ("vulnerabilities", "vulnerabilities"),
    ("software-vulnerabilities", "software-vulnerabilities"),
    ("alerts", "alerts"),
    ("incidents", "incidents"),
];

/// Settings of two words, the default first.
const EITHER_OR: &[(&str, [&str; 2])] = &[
    ("DEFENDER_ALERTS_API", ["graph", "mde"]),
    ("DEFENDER_INCIDENTS_API", ["graph", "xdr"]),
];

/// Settings of yes or no. By default none of them says yes: Sentinel's own alerts come from Sentinel, and
/// incidents from Graph without their alerts.
const FLAGS: &[&str] = &[
    "DEFENDER_IGNORE_RESOLVED_INCIDENTS",
    "DEFENDER_SENTINEL_ALERTS",
    "DEFENDER_INCIDENT_ALERTS",
    "DEFENDER_ENDPOINT_ONLY",
];

const SEVERITIES: &[(&str, &str)] = &[
    ("low", "Low"),
    ("medium", "Medium"),
    ("high", "High"),
    ("critical", "Critical"),
];

/// How one Defender tenant is read.
#[derive(Debug, Clone)]
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
    /// `DEFENDER_CLIENT_FEDERATED`: an identity in place of secret and certificate; by default none.
    pub federated: Option<FederatedIdentity>,
    /// `DEFENDER_API_URL`; a short name such as `eu`, or a URL.
    pub api_url: String,
    /// `DEFENDER_API_SCOPE`.
    pub api_scope: String,
    /// `GRAPH_URL`.
    pub graph_url: String,
    /// `DEFENDER_VULNERABILITY_SEVERITIES`, as the API spells them; empty means all.
    pub severities: Vec<String>,
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

    /// Reads everything before it gives up, so that all problems are noted. Choices are `DEFENDER_STREAMS`,
    /// machines, alerts and incidents by default and none when it is `none`; `DEFENDER_HUNTING_TABLES` as
    /// they were written, none by default; and the settings of two words.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        secret: impl FnOnce(&mut Reader<'_>) -> Read<Option<SecretSource>>,
    ) -> (Read<Self>, Read<Choices>) {
        let tenant_id = reader.required("DEFENDER_TENANT_ID", azure::tenant);
        let client_id = reader.optional("DEFENDER_CLIENT_ID", azure::client);
        let client_secret = secret(reader);
        let federated = FederatedIdentity::read(reader);
        let client_certificate = reader.optional("DEFENDER_CLIENT_CERTIFICATE_PATH", super::path);
        let api_url = reader.or("DEFENDER_API_URL", API_URL.to_owned(), host);
        let api_scope = reader.or("DEFENDER_API_SCOPE", API_SCOPE.to_owned(), values::text);
        let graph_url = reader.or("GRAPH_URL", GRAPH_URL.to_owned(), values::url);
        let severities = reader.or("DEFENDER_VULNERABILITY_SEVERITIES", Vec::new(), |list| {
            values::each(list, values::one_of(SEVERITIES))
        });
        let choices = choices(reader);

        let settings = || {
            let (client_id, client_secret) = (client_id?, client_secret?);
            let client_certificate = client_certificate?;
            let federated = federated?;
            let has_proof =
                client_secret.is_some() || client_certificate.is_some() || federated.is_some();
            if has_proof && client_id.is_none() {
                return Err(reader.missing("DEFENDER_CLIENT_ID"));
            }
            Ok(Self {
                tenant_id: tenant_id?,
                client_id,
                client_secret,
                client_certificate: client_certificate.filter(|_| federated.is_none()),
                federated,
                api_url: api_url?,
                api_scope: api_scope?,
                graph_url: graph_url?,
                severities: severities?.into_iter().map(str::to_owned).collect(),
            })
        };
        (settings(), choices)
    }
}

fn choices(reader: &mut Reader<'_>) -> Read<Choices> {
    let usual = vec!["machines", "alerts", "incidents"];
    let streams = reader.or("DEFENDER_STREAMS", usual, |list| {
        if list.eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        values::each(list, values::one_of(STREAMS))
    });
    let tables = reader.or("DEFENDER_HUNTING_TABLES", Vec::new(), |list| {
        values::each(list, values::text)
    });
    let mut choices = Choices::default();
    let mut wrong = None;
    for name in FLAGS {
        match reader.or(name, false, values::yes_or_no) {
            Ok(flag) => choices.add(name, [if flag { "yes" } else { "no" }]),
            Err(noted) => wrong = Some(noted),
        }
    }
    for (name, words) in EITHER_OR {
        let meant = words.map(|word| (word, word));
        match reader.or(name, words[0], values::one_of(&meant)) {
            Ok(word) => choices.add(name, [word]),
            Err(noted) => wrong = Some(noted),
        }
    }
    choices.add("DEFENDER_STREAMS", streams?);
    choices.add("DEFENDER_HUNTING_TABLES", tables?);
    wrong.map_or(Ok(choices), Err)
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
