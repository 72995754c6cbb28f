//! What the outside world is like.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::world::{Finest, defender::Estate};

/// What the v2 feeds of detections carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V2Carries {
    /// Cloud Office Security only.
    OnlyCloudOffice,
    /// PROTECT and Inspect as well.
    AlsoInspect,
    /// PROTECT and Inspect as well, under other ids than the v1 feeds.
    OtherIds,
    /// PROTECT and Inspect as well, in lists without members that a single record has.
    FewerMembers,
    /// PROTECT and Inspect as well, half an hour later than the v1 feeds.
    Later,
}

/// How a last page says that it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEnd {
    /// `"nextPageToken": ""`.
    Empty,
    /// `"nextPageToken": null`.
    Null,
    /// No `nextPageToken`.
    Absent,
}

/// What the limit of one call to the Logs Ingestion API is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimit {
    /// The body as sent, compressed or not.
    AsSent,
    /// The body after decompression.
    Uncompressed,
    /// Either.
    Both,
}

/// What the list of ESET incidents says of their detections and devices. The documentation
/// has it leave both out; whoever calls by the schema takes them for required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncidentUuids {
    /// No `detectionUuids` and no `deviceUuids`.
    Absent,
    /// Both as `[]`.
    Empty,
    /// Both as the incident itself has them.
    Listed,
}

/// What Microsoft Defender is like.
#[derive(Debug, Clone)]
pub struct DefenderOptions {
    /// The app registration that may read from it.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The SHA-256 of its certificate, in base64url; none when it has none.
    pub certificate: Option<String>,
    /// Its federated credential; none when it trusts no identity.
    pub federated: Option<FederatedCredential>,
    /// The application roles that were consented to, for it and for the managed identities.
    pub roles: BTreeSet<String>,
    /// Lifetime of its tokens in seconds.
    pub token_lifetime: u32,
    /// Whether each API takes tokens for itself only; else the two of one host take both.
    pub own_audience: bool,
    /// Whether calls are counted against the quotas of the service.
    pub quotas: bool,
    /// How large the company is.
    pub estate: Estate,
    /// The tables of advanced hunting that are not deployed.
    pub missing_tables: BTreeSet<String>,
    /// The most rows of one answer of advanced hunting; what is beyond is cut off without a word.
    pub hunting_rows: usize,
    /// The largest answer of advanced hunting in bytes, before it is an error.
    pub hunting_bytes: usize,
    /// The most alerts that `$expand` may bring into one answer before it breaks; none for any.
    pub expanded_alerts: Option<usize>,
}

/// Whose tokens an app takes for its own assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedCredential {
    /// The tenant of the identity, as an issuer.
    pub issuer: String,
    /// The identity's object id.
    pub subject: String,
    /// Whom its tokens have to be for.
    pub audience: String,
}

/// The application roles that reading takes.
pub const ROLES: [&str; 8] = [
    "Machine.Read.All",
    "User.Read.All",
    "Vulnerability.Read.All",
    "Alert.Read.All",
    "Incident.Read.All",
    "SecurityAlert.Read.All",
    "SecurityIncident.Read.All",
    "ThreatHunting.Read.All",
];

impl Default for DefenderOptions {
    fn default() -> Self {
        Self {
            client_id: "7e1d40b8-93c5-4b6e-8f02-d25a61c9b734".to_owned(),
            client_secret: "simulated~secret.of+the/reader".to_owned(),
            certificate: None,
            federated: None,
            roles: ROLES.map(str::to_owned).into(),
            token_lifetime: 3599,
            own_audience: true,
            quotas: true,
            estate: Estate::default(),
            missing_tables: BTreeSet::new(),
            hunting_rows: 100_000,
            hunting_bytes: 50_000_000,
            expanded_alerts: None,
        }
    }
}

/// What there is so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkOf {
    /// Detections of ESET PROTECT and Inspect, spread over the 23 hours before the start.
    Detections,
    /// Rows of the export of software vulnerabilities by machine. Nothing changes after it.
    Export,
    /// Rows of one table of advanced hunting, in the 24 hours before the start.
    Hunting,
    /// Machines that report and stay as they are.
    Machines,
}

/// Everything that can be chosen. [`Options::new`] has good defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides the whole world.
    pub seed: u64,
    /// When the simulator was first started; history reaches back a week from here.
    pub start: DateTime<Utc>,
    /// Multiplies the number of events.
    pub scale: f64,
    /// The ESET API user.
    pub login: String,
    /// How many further ESET accounts there are, of users `t1.LOGIN`, `t2.LOGIN` and so on: each sees the
    /// same company, with the same password.
    pub accounts: u64,
    /// The ESET API user's password.
    pub password: String,
    /// The region that the settings name.
    pub region: String,
    /// Lifetime of an ESET access token in seconds.
    pub token_lifetime: u32,
    /// Whether ESET's token answers hold a refresh token.
    pub refresh_tokens: bool,
    /// ESET calls per second before 429; none for no limit.
    pub calls_per_second: Option<usize>,
    /// What the v2 feeds carry.
    pub v2_carries: V2Carries,
    /// How a last page ends.
    pub page_end: PageEnd,
    /// How finely ESET writes its times, at most.
    pub finest_time: Finest,
    /// What the list of incidents says of their detections and devices.
    pub incident_uuids: IncidentUuids,
    /// The Entra tenant.
    pub tenant_id: String,
    /// The app registration.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Until when the secret is good; none for ever.
    pub client_secret_expires: Option<DateTime<Utc>>,
    /// The SHA-256 of its certificate, in base64url; none when it has none.
    pub certificate: Option<String>,
    /// What Microsoft Defender is like.
    pub defender: DefenderOptions,
    /// Whether the app has a system-assigned identity.
    pub system_identity: bool,
    /// The client id of the user-assigned identity.
    pub user_identity: String,
    /// Its object id.
    pub user_identity_object: String,
    /// What proves to the platform that a call comes from inside the app.
    pub identity_header: String,
    /// What the vault holds at first.
    pub secrets: BTreeMap<String, VaultSecret>,
    /// The immutable id of the data collection rule.
    pub dcr: String,
    /// The streams of the rule and the columns of their tables; none for "every column".
    pub streams: BTreeMap<String, Option<Vec<String>>>,
    /// What the size limit is measured on.
    pub size_limit: SizeLimit,
    /// Whether received rows are kept, or only counted.
    pub keep_rows: bool,
    /// How much longer each call takes: half of it on the way there, half on the way back, as on a line.
    pub latency: Duration,
    /// In place of what the company has of these so many that are alike: they cost next to nothing to
    /// make, and rows are counted by record instead of being kept.
    pub bulk: Option<(BulkOf, u64)>,
}

/// A secret of the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret {
    /// Its value.
    pub value: String,
    /// Until when it is good.
    pub expires: Option<DateTime<Utc>>,
}

/// The stream of detections.
pub const STREAM: &str = "Custom-IntegrationTable_CL";
/// The stream of incidents.
pub const STREAM_INCIDENTS: &str = "Custom-IntegrationTableIncidents_CL";

/// Who issues the tokens that identities of a tenant show to apps.
pub(crate) fn issuer(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

impl Options {
    /// Login of the further account with this number, where `login` is that of the first.
    pub fn login_of(account: u64, login: &str) -> String {
        format!("t{account}.{login}")
    }

    /// True for the login of an account that there is.
    pub(crate) fn is_login(&self, login: &str) -> bool {
        let number = || {
            login
                .strip_suffix(&self.login)?
                .strip_prefix('t')?
                .strip_suffix('.')
        };
        let account = || number()?.parse().ok();
        login == self.login
            || account().is_some_and(|account| (1..=self.accounts).contains(&account))
    }

    /// The federated credential with which an app takes the user-assigned identity's word.
    pub fn federated(&self) -> FederatedCredential {
        FederatedCredential {
            issuer: issuer(&self.tenant_id),
            subject: self.user_identity_object.clone(),
            audience: "api://AzureADTokenExchange".to_owned(),
        }
    }

    /// The world of `seed`, first started at `start`.
    pub fn new(seed: u64, start: DateTime<Utc>) -> Self {
        let password = "correct horse & battery+staple".to_owned();
        let kept = VaultSecret {
            value: password.clone(),
            expires: Some(start + TimeDelta::days(180)),
        };
        Self {
            seed,
            start,
            scale: 1.0,
            login: "sentinel@fennbridge.example".to_owned(),
            accounts: 0,
            password,
            region: "eu".to_owned(),
            token_lifetime: 3600,
            refresh_tokens: true,
            calls_per_second: Some(10),
            v2_carries: V2Carries::OnlyCloudOffice,
            page_end: PageEnd::Empty,
            finest_time: Finest::Nanos,
            incident_uuids: IncidentUuids::Absent,
            tenant_id: "5f0c1d2e-7a31-4a55-9c1b-0d6a3b8e4f21".to_owned(),
            client_id: "b3a7e1c4-52d9-4f0e-8a66-91c2d7f05e38".to_owned(),
            client_secret: "simulated~secret.of+the/app".to_owned(),
            client_secret_expires: None,
            certificate: None,
            defender: DefenderOptions::default(),
            system_identity: true,
            user_identity: "0c9b7d52-6f1e-4c83-a2d4-7be5f9136a08".to_owned(),
            user_identity_object: "d41f6a0e-3b7c-4e95-8a1d-60c2f5b9e714".to_owned(),
            identity_header: "5A0D3C7E91B24F68".to_owned(),
            secrets: [("eset-password".to_owned(), kept)].into(),
            dcr: "dcr-0123456789abcdef0123456789abcdef".to_owned(),
            streams: [STREAM, STREAM_INCIDENTS]
                .map(|name| (name.to_owned(), None))
                .into(),
            size_limit: SizeLimit::Both,
            keep_rows: true,
            latency: Duration::ZERO,
            bulk: None,
        }
    }
}
