//! The answer about machines: as JSON it is what these types say, in camel case.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Form, kept};
use crate::core::json::{record::JsonObject, time::parse_time};

/// At most so many vulnerabilities of a machine are shown.
pub const WORST: usize = 10;

/// At most so many open alerts of a machine are shown, and so many of its users.
pub const MOST: usize = 20;

/// The machines that something stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What was looked for, as it was written.
    pub find: String,
    /// The machines, most recently seen first. There is at least one.
    pub machines: Vec<Found>,
}

/// A machine and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The connection that knows it.
    pub connection: String,
    /// The machine itself; its members stand beside `connection`.
    #[serde(flatten)]
    pub machine: Machine,
    /// Who has logged on to it, most recent first, asked of the service in this moment; null when
    /// it could not be asked.
    pub users: Option<Vec<User>>,
    /// Why `users` is null.
    pub users_missing: Option<String>,
    /// Its open alerts.
    pub alerts: Alerts,
    /// Its vulnerabilities.
    pub vulnerabilities: Vulnerabilities,
    /// Up to when the rest is known.
    pub synced: Synced,
}

/// A machine, as it was when its record came last. What the source does not say is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Machine {
    /// Its id in Defender.
    pub id: String,
    /// Its full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id in Entra.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aad_device_id: Option<String>,
    /// The addresses that it is found by.
    pub addresses: Vec<String>,
    /// The address that it was seen under on the internet, which it may share; it is not found by
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_address: Option<String>,
    /// Its operating system, such as `Windows11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_platform: Option<String>,
    /// The version of it, such as `24H2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The build of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_build: Option<String>,
    /// When it was seen first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    /// Its last full report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// `Active`, `Inactive`, `ImpairedCommunication`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// `Onboarded`, `CanBeOnboarded`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onboarding: Option<String>,
    /// What it is worth: `Normal`, `Low`, `High`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its device group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `None`, `Informational`, `Low`, `Medium`, `High`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
    /// `None`, `Low`, `Medium`, `High`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<String>,
    /// The machine that it turned out to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
}

/// Somebody who has logged on to a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// The account's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Its security identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The first logon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// How, such as `Interactive, RemoteInteractive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logon_types: Option<String>,
    /// True for an administrator of the domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_domain_admin: Option<bool>,
}

/// Open alerts of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Alerts {
    /// How many there are.
    pub total: usize,
    /// The most severe and most recent of them, 20 at most.
    pub open: Vec<Alert>,
}

/// An open alert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `high`, `medium`, …, as the source spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// `new`, `inProgress`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Such as `Execution`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The product that raised it, such as `microsoftDefenderForIdentity`, where the source says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// When it was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// The incident that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Where to look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Vulnerabilities of a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Vulnerabilities {
    /// How many there are, each piece of software by itself.
    pub total: usize,
    /// The worst: by severity, then by how it is exploited, then by its score; 10 at most.
    pub worst: Vec<Vulnerability>,
}

/// A vulnerability of a piece of software on a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Vulnerability {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cve: Option<String>,
    /// `Critical`, `High`, `Medium`, `Low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// CVSS 3, once the catalogue was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvss: Option<f64>,
    /// How it is exploited, once the catalogue was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exploit: Option<Exploit>,
    /// The vendor of the software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The update that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixing_kb: Option<String>,
}

/// How a vulnerability is exploited, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exploit {
    /// Nobody knows how.
    None,
    /// An exploit is public.
    Public,
    /// It was shown to work.
    Verified,
    /// Kits have it.
    Kit,
}

/// What the catalogue says of a vulnerability.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Known {
    cvss: Option<f64>,
    public: bool,
    verified: bool,
    kit: bool,
}

impl Known {
    fn exploit(&self) -> Exploit {
        match self {
            Self { kit: true, .. } => Exploit::Kit,
            Self { verified: true, .. } => Exploit::Verified,
            Self { public: true, .. } => Exploit::Public,
            _ => Exploit::None,
        }
    }
}

/// Up to when the streams are known. Null: never as a whole, so that nothing found says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// Machines.
    pub machines: Option<DateTime<Utc>>,
    /// Alerts, from the first run's history on.
    pub alerts: Option<DateTime<Utc>>,
    /// Vulnerabilities.
    pub vulnerabilities: Option<DateTime<Utc>>,
}

/// What is kept of a user.
const USER: &[(&str, &str, Form)] = &[
    ("accountName", "account", Form::Text),
    ("accountDomain", "domain", Form::Text),
    ("accountSid", "sid", Form::Text),
    ("firstSeen", "firstSeen", Form::Text),
    ("lastSeen", "lastSeen", Form::Text),
    ("logonTypes", "logonTypes", Form::Text),
    ("isDomainAdmin", "isDomainAdmin", Form::Flag),
];

/// The users of an answer, most recent first, 20 at most; none when it is not as documented.
pub fn users(body: &[u8]) -> Option<Vec<User>> {
    let answer = JsonObject::of(body).ok()?;
    let list: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(answer.raw("value")?.get()).ok()?;
    let mut users: Vec<User> = list
        .into_iter()
        .filter_map(JsonObject::of_value)
        .filter_map(|user| serde_json::from_value(kept(&user, USER, &[]).into()).ok())
        .collect();
    users.sort_by_key(|user: &User| std::cmp::Reverse(time(user.last_seen.as_ref())));
    users.truncate(MOST);
    Some(users)
}

/// Puts machines in the order of the answer: most recently seen first.
pub fn order(machines: &mut [(String, Machine)]) {
    machines.sort_by_cached_key(|(connection, machine)| {
        let seen = std::cmp::Reverse(time(machine.last_seen.as_ref()));
        (seen, connection.clone(), machine.id.clone())
    });
}

/// The open alerts of a machine: the most severe first, of these the most recent.
pub fn alerts(mut open: Vec<Alert>) -> Alerts {
    let total = open.len();
    open.sort_by_cached_key(|alert| {
        let rank = (rank(alert.severity.as_ref()), time(alert.updated.as_ref()));
        (std::cmp::Reverse(rank), alert.id.clone())
    });
    open.truncate(MOST);
    Alerts { total, open }
}

/// Those that may be among the worst: the catalogue need not be asked about the others.
pub fn candidates(mut all: Vec<Vulnerability>) -> Vec<Vulnerability> {
    all.sort_by_key(|one| std::cmp::Reverse(rank(one.severity.as_ref())));
    if let Some(last) = all.get(WORST - 1) {
        let least = rank(last.severity.as_ref());
        all.retain(|one| rank(one.severity.as_ref()) >= least);
    }
    all
}

/// The worst of these, with what the catalogue knows.
pub fn worst<'k>(
    mut candidates: Vec<Vulnerability>,
    known: impl Fn(&str) -> Option<&'k Known>,
) -> Vec<Vulnerability> {
    for one in &mut candidates {
        if let Some(known) = one.cve.as_deref().and_then(&known) {
            one.cvss = known.cvss;
            one.exploit = Some(known.exploit());
        }
    }
    candidates.sort_by(|one, two| {
        let rank = |one: &Vulnerability| (rank(one.severity.as_ref()), one.exploit);
        let score = |one: &Vulnerability| one.cvss.unwrap_or(-1.0);
        let name =
            |one: &Vulnerability| (one.cve.clone(), one.product.clone(), one.version.clone());
        rank(two)
            .cmp(&rank(one))
            .then_with(|| score(two).total_cmp(&score(one)))
            .then_with(|| name(one).cmp(&name(two)))
    });
    candidates.truncate(WORST);
    candidates
}

/// How severe a word is.
fn rank(severity: Option<&String>) -> u8 {
    let severity = severity.map(|text| text.to_ascii_lowercase());
    match severity.as_deref() {
        Some("critical") => 5,
        Some("high") => 4,
        Some("medium") => 3,
        Some("low") => 2,
        Some("informational") => 1,
        _ => 0,
    }
}

fn time(text: Option<&String>) -> Option<DateTime<Utc>> {
    text.and_then(|text| parse_time(text))
}
