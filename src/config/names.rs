//! Every setting that the program reads, in one table.
//!
//! `check` prints it, `docs/settings.md` and `local.settings.json.example` are tested against it, and a
//! name that is nearly in it is warned of.

use super::environment::Environment;
use crate::core::spelling::{most_like, nearest};

/// Where a setting applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To a connection: `CONNECTIONS` can give each its own value.
    Connection,
    /// To the whole app.
    App,
    /// Given by the platform; nobody sets it by hand.
    Platform,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name; `<STREAM>` and `<CONNECTION>` stand for a name in upper case with `_` for
    /// everything else than letters and digits.
    pub name: &'static str,
    /// Other names for it: those of the stock ESET connector.
    pub aliases: &'static [&'static str],
    /// What it means.
    pub about: &'static str,
    /// What applies without it; empty when nothing does.
    pub default: &'static str,
    /// True when its value must never be shown.
    pub secret: bool,
    /// A value as it could be.
    pub example: &'static str,
    /// Where it applies.
    pub scope: Scope,
}

impl Setting {
    const fn new(scope: Scope, name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            about,
            default: "",
            secret: false,
            example: "",
            scope,
        }
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// What it means, its default, an example and its other names, in one line.
    pub fn explained(&self) -> String {
        let mut parts = vec![self.about.to_owned()];
        if !self.default.is_empty() {
            parts.push(format!("default {}", self.default));
        }
        if !self.example.is_empty() {
            parts.push(format!("for example {}", self.example));
        }
        if !self.aliases.is_empty() {
            parts.push(format!("also read as {}", self.aliases.join(", ")));
        }
        parts.join("; ")
    }
}

use Scope::{App, Connection, Platform};

/// Every setting that the program, or the function folders, read.
pub const SETTINGS: &[Setting] = &[
    Setting::new(Connection, "ESET_REGION", "data centre of the ESET tenant: eu, us, jpn, ca or de")
        .alias(&["INSTANCE_REGION"])
        .example("eu"),
    Setting::new(Connection, "ESET_LOGIN", "login of the ESET API user; without any of region, login and password there is no ESET connection")
        .alias(&["USERNAME_INTEGRATION"])
        .example("api-user@example.com"),
    Setting::new(Connection, "ESET_PASSWORD", "password of the ESET API user; when absent, read from KEY_VAULT_URL as eset-password")
        .alias(&["PASSWORD_INTEGRATION"])
        .secret(),
    Setting::new(App, "<CONNECTION>_ESET_PASSWORD", "password of one connection of CONNECTIONS, its name in upper case; when absent, read from KEY_VAULT_URL as <connection>-eset-password")
        .secret(),
    Setting::new(Connection, "ESET_PRODUCTS", "what to pull, comma-separated: protect, inspect, cloud-office")
        .default("protect")
        .example("protect,inspect"),
    Setting::new(Connection, "EP_INSTANCE", "yes pulls ESET PROTECT; the stock name, read when ESET_PRODUCTS is not set"),
    Setting::new(Connection, "EI_INSTANCE", "yes pulls ESET Inspect; the stock name, read when ESET_PRODUCTS is not set"),
    Setting::new(Connection, "ECOS_INSTANCE", "yes pulls ESET Cloud Office Security; the stock name, read when ESET_PRODUCTS is not set"),
    Setting::new(Connection, "ESET_STREAMS", "what to read of them, comma-separated: detections, incidents, devices")
        .default("detections,incidents")
        .example("detections,incidents,devices"),
    Setting::new(Connection, "ESET_ENRICH", "what to look up for each detection: none, hosts (device names), details (the full detection) or all")
        .default("all"),
    Setting::new(Connection, "ESET_MAX_CALLS_PER_SECOND", "calls a second to ESET, which allows 10")
        .default("9"),
    Setting::new(Connection, "ESET_URL_TEMPLATE", "where ESET answers; {region} and {domain} are filled in")
        .default("https://{region}.{domain}.eset.systems"),
    Setting::new(Connection, "DEFENDER_TENANT_ID", "tenant whose Microsoft Defender is read; without it there is no Defender connection")
        .example("contoso.onmicrosoft.com"),
    Setting::new(Connection, "DEFENDER_CLIENT_ID", "client id of the app registration that reads it; without secret and certificate, of a user-assigned identity")
        .default("the identity that pushes rows"),
    Setting::new(Connection, "DEFENDER_CLIENT_SECRET", "secret of that app registration: its value, not its id; when absent, read from KEY_VAULT_URL as defender-client-secret")
        .secret(),
    Setting::new(App, "<CONNECTION>_DEFENDER_CLIENT_SECRET", "secret of one connection of CONNECTIONS, its name in upper case; when absent, read from KEY_VAULT_URL as <connection>-defender-client-secret")
        .secret(),
    Setting::new(Connection, "DEFENDER_CLIENT_CERTIFICATE_PATH", "PEM file with the app registration's certificate and RSA key, in place of a secret"),
    Setting::new(Connection, "DEFENDER_CLIENT_FEDERATED", "yes has the app's user-assigned identity prove that app registration, in place of a secret: it has to have a federated credential for the identity")
        .default("no"),
    Setting::new(App, "DEFENDER_FEDERATED_AUDIENCE", "audience of that federated credential; differs in sovereign clouds")
        .default("that of the cloud of AZURE_AUTHORITY_HOST, api://AzureADTokenExchange in the public one"),
    Setting::new(Connection, "DEFENDER_STREAMS", "what to pull, comma-separated, or none: machines, vulnerabilities, software-vulnerabilities, alerts, incidents")
        .default("machines,alerts,incidents"),
    Setting::new(Connection, "DEFENDER_HUNTING_TABLES", "event tables to pull by advanced hunting, comma-separated")
        .default("none")
        .example("DeviceEvents,EmailEvents"),
    Setting::new(Connection, "DEFENDER_VULNERABILITY_SEVERITIES", "which vulnerabilities, comma-separated: low, medium, high, critical")
        .default("all"),
    Setting::new(Connection, "DEFENDER_IGNORE_RESOLVED_INCIDENTS", "yes leaves out resolved incidents, but for those of which something was sent before")
        .default("no"),
    Setting::new(Connection, "DEFENDER_INCIDENT_ALERTS", "yes has Graph put its alerts into each incident; given up by itself where the tenant is too large for it")
        .default("no"),
    Setting::new(Connection, "DEFENDER_SENTINEL_ALERTS", "yes pulls alerts that Sentinel itself has raised, too")
        .default("no"),
    Setting::new(Connection, "DEFENDER_ENDPOINT_ONLY", "yes keeps to alerts of Defender for Endpoint, to incidents with one of them (where they come with their alerts: DEFENDER_INCIDENTS_API=xdr or DEFENDER_INCIDENT_ALERTS) and to hunting tables of devices")
        .default("no"),
    Setting::new(Connection, "DEFENDER_ALERTS_API", "which API brings alerts: graph (all products) or mde (Defender for Endpoint)")
        .default("graph"),
    Setting::new(Connection, "DEFENDER_INCIDENTS_API", "which API brings incidents: graph or xdr")
        .default("graph"),
    Setting::new(Connection, "DEFENDER_API_URL", "where Defender answers: us, eu, uk, au, swa, ina, aea, gcc, gcc-high, dod, or a URL")
        .default("https://api.security.microsoft.com"),
    Setting::new(Connection, "DEFENDER_API_SCOPE", "scope of the tokens for Defender for Endpoint")
        .default("https://api.securitycenter.microsoft.com/.default"),
    Setting::new(Connection, "GRAPH_URL", "where Microsoft Graph answers; differs in sovereign clouds")
        .default("https://graph.microsoft.com"),
    Setting::new(Connection, "<STREAM>_EVERY", "least time between two runs of a stream")
        .example("ESET_INCIDENTS_EVERY=15m"),
    Setting::new(Connection, "<STREAM>_DELAY", "how long after an instant a window may first end there")
        .example("ESET_INCIDENTS_DELAY=2m"),
    Setting::new(Connection, "<STREAM>_LOOKBACK", "how much is read again before the cursor, for records that became visible late")
        .example("ESET_DETECTIONS_LOOKBACK=3d"),
    Setting::new(Connection, "<STREAM>_SWEEP", "how much of a list by update time is read again once a day, for records that became visible later than the lookback; 0s for none")
        .default("3d for alerts and incidents")
        .example("DEFENDER_ALERTS_SWEEP=7d"),
    Setting::new(Connection, "<STREAM>_STEP", "the longest window of one request")
        .example("ESET_DETECTIONS_STEP=6h"),
    Setting::new(Connection, "<STREAM>_FILTER", "which records of a stream are wanted, by severity, category, product, status or device-group; what was sent before is followed to its end")
        .default("all")
        .example("DEFENDER_ALERTS_FILTER=severity>=medium; product!=microsoftSentinel"),
    Setting::new(Connection, "INITIAL_HISTORY", "how far back the first run reads")
        .default("24h")
        .example("30d"),
    Setting::new(Connection, "SNAPSHOT_REWRITE", "how often all devices and vulnerabilities are written, changed or not")
        .default("7d"),
    Setting::new(App, "CONNECTIONS", "JSON array of connections, each inheriting the flat settings, without secrets; or where it is: @connections.json (a file) or @blob:connections.json (a blob of the container sentinel-connector), read again when it changes")
        .default("one connection, `default`, of the flat settings")
        .example(r#"[{"name":"contoso","source":"eset","every":"15m","settings":{"ESET_REGION":"us","ESET_LOGIN":"api@contoso.example"}}]"#),
    Setting::new(App, "SINK", "where rows go: embedded or logs-ingestion")
        .default("embedded on the command line, logs-ingestion under the host when LOGS_INGESTION_ENDPOINT is set"),
    Setting::new(App, "LOGS_INGESTION_ENDPOINT", "endpoint of the data collection endpoint or rule")
        .alias(&["ENDPOINT_URI"])
        .example("https://contoso-abcd.westeurope-1.ingest.monitor.azure.com"),
    Setting::new(App, "LOGS_INGESTION_SCOPE", "scope of its tokens; differs in sovereign clouds")
        .default("that of the endpoint's cloud, https://monitor.azure.com//.default in the public one"),
    Setting::new(App, "DCR_IMMUTABLE_ID", "immutable id of the data collection rule")
        .alias(&["DCR_IMMUTABLEID"])
        .example("dcr-0123456789abcdef0123456789abcdef"),
    Setting::new(App, "DCR_STREAM", "stream of the rule that takes detections and all other records")
        .alias(&["STREAM_NAME"])
        .default("Custom-IntegrationTable_CL"),
    Setting::new(App, "DCR_STREAM_INCIDENTS", "stream of the rule that takes incidents")
        .alias(&["STREAM_NAME_INCIDENTS"])
        .default("Custom-IntegrationTableIncidents_CL"),
    Setting::new(App, "ROUTES", "streams whose rows go to a table of their own: stream=[[endpoint/]dcr-id/]Custom-X_CL, comma-separated; `routes arm` prints the tables and rules")
        .example("eset.incidents=Custom-EsetIncidents_CL"),
    Setting::new(App, "STORAGE", "where cursors and outbox are kept: embedded (a file) or azure (the account of AzureWebJobsStorage)")
        .default("embedded on the command line, azure under the host when AzureWebJobsStorage is set"),
    Setting::new(App, "AzureWebJobsStorage", "connection string of the storage account; the Functions host uses it, too")
        .secret(),
    Setting::new(App, "AzureWebJobsStorage__accountName", "name of the storage account, when an identity opens it")
        .example("contosoconnector"),
    Setting::new(App, "AzureWebJobsStorage__tableServiceUri", "where its tables answer")
        .default("https://{account}.table.core.windows.net"),
    Setting::new(App, "AzureWebJobsStorage__blobServiceUri", "where its blobs answer")
        .default("https://{account}.blob.core.windows.net"),
    Setting::new(App, "AzureWebJobsStorage__queueServiceUri", "where its queues answer; read where SCALE_OUT=queue, and by the Functions host")
        .default("https://{account}.queue.core.windows.net"),
    Setting::new(App, "AzureWebJobsStorage__credential", "managedidentity; the Functions host wants it"),
    Setting::new(App, "AzureWebJobsStorage__clientId", "client id of the user-assigned identity that opens it")
        .default("the system-assigned identity"),
    Setting::new(Connection, "KEY_VAULT_URL", "vault that holds the secrets which are not set here, named with dashes, such as eset-password; of a connection, a vault of its own")
        .example("https://contoso.vault.azure.net"),
    Setting::new(App, "AZURE_TENANT_ID", "tenant of the app registration that pushes rows and reads the vault")
        .example("contoso.onmicrosoft.com"),
    Setting::new(App, "AZURE_CLIENT_ID", "client id of that app registration; without secret and certificate, of a user-assigned identity")
        .default("the system-assigned identity, on a laptop the Azure CLI login"),
    Setting::new(App, "AZURE_CLIENT_SECRET", "secret of the app registration: its value, not its id")
        .secret(),
    Setting::new(App, "AZURE_CLIENT_CERTIFICATE_PATH", "PEM file with the app registration's certificate and RSA key, in place of a secret"),
    Setting::new(App, "AZURE_AUTHORITY_HOST", "where Entra answers; differs in sovereign clouds")
        .default("https://login.microsoftonline.com"),
    Setting::new(App, "CONNECTOR_DATA", "folder of the embedded file")
        .default("./connector-data"),
    Setting::new(App, "RUN_BUDGET_SECONDS", "how long one run may take, well under functionTimeout of host.json")
        .default("240"),
    Setting::new(App, "STREAMS_AT_ONCE", "how many streams of different accounts and tenants go side by side, 1 to 256")
        .default("32"),
    Setting::new(App, "SCALE_OUT", "how the timers work under the host: off (each pulls by itself) or queue (each plans, and the function PullWorker pulls, in as many instances as the host starts; needs STORAGE=azure)")
        .default("off"),
    Setting::new(App, "OUTBOX_MAX_BYTES", "how much may wait in the outbox before pulling pauses")
        .default("1GB"),
    Setting::new(App, "PRICE_PER_GB", "price of a gigabyte in Log Analytics, with its currency, for the cost on the status page")
        .example("2.99 USD"),
    Setting::new(App, "TIME_GENERATED", "TimeGenerated of a row: ingestion (now) or event (when it happened)")
        .default("ingestion"),
    Setting::new(App, "EXTRA_CA_FILE", "PEM file of a further root certificate: a company's proxy, or the simulator"),
    Setting::new(App, "LOG_LEVEL", "error, warn, info, debug or trace")
        .default("info under the host, else warn"),
    Setting::new(App, "LOG_FORMAT", "text or json")
        .default("json under the host, else text"),
    Setting::new(App, "OTEL_EXPORTER_OTLP_ENDPOINT", "where OpenTelemetry traces and metrics go, as OTLP over HTTP; without it none are made")
        .example("http://127.0.0.1:4318"),
    Setting::new(App, "OTEL_EXPORTER_OTLP_HEADERS", "headers of what is sent there, as name=value, comma-separated; over https, or to this machine")
        .secret(),
    Setting::new(App, "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf; nothing else is spoken")
        .default("http/protobuf"),
    Setting::new(App, "OTEL_EXPORTER_OTLP_TIMEOUT", "milliseconds that one request there may take")
        .default("10000"),
    Setting::new(App, "OTEL_METRIC_EXPORT_INTERVAL", "milliseconds between two times that metrics are sent")
        .default("60000"),
    Setting::new(App, "OTEL_TRACES_EXPORTER", "otlp, or none for no traces")
        .default("otlp"),
    Setting::new(App, "OTEL_METRICS_EXPORTER", "otlp, or none for no metrics")
        .default("otlp"),
    Setting::new(App, "OTEL_SERVICE_NAME", "service.name of what is sent")
        .default("sentinel-connector"),
    Setting::new(App, "OTEL_RESOURCE_ATTRIBUTES", "further attributes of all that is sent, as name=value, comma-separated")
        .example("deployment.environment.name=production"),
    Setting::new(App, "OTEL_TRACES_SAMPLER", "which traces are sent: always_on, always_off, traceidratio, or one of these behind parentbased_")
        .default("parentbased_always_on"),
    Setting::new(App, "OTEL_TRACES_SAMPLER_ARG", "the part of the traces that a ratio lets through, 0 to 1")
        .default("1"),
    Setting::new(App, "OTEL_SDK_DISABLED", "true sends nothing, whatever else is set")
        .default("false"),
    Setting::new(Platform, "ESET_SCHEDULE", "when the function EsetTimer runs, as a six-field timer expression; read by the host")
        .example("0 */5 * * * *"),
    Setting::new(Platform, "DEFENDER_SCHEDULE", "when the function DefenderTimer runs, as a six-field timer expression; read by the host")
        .example("0 */5 * * * *"),
    Setting::new(Platform, "PUSH_SCHEDULE", "when the function SentinelPush runs, as a six-field timer expression; read by the host")
        .example("30 */5 * * * *"),
    Setting::new(Platform, "IDENTITY_ENDPOINT", "where managed identities get their tokens; set by the platform"),
    Setting::new(Platform, "IDENTITY_HEADER", "shows that a call comes from inside the app; set by the platform")
        .secret(),
    Setting::new(Platform, "FUNCTIONS_CUSTOMHANDLER_PORT", "port that the Functions host expects `serve` on; set by the host"),
    Setting::new(Platform, "WEBSITE_INSTANCE_ID", "says that this is Azure; set by the platform"),
    Setting::new(Platform, "WEBSITE_SITE_NAME", "name of the app, in health rows; says that this is Azure; set by the platform"),
];

/// The endings of the settings of a stream.
pub(super) const STREAM_ENDINGS: [&str; 6] = [
    "_EVERY",
    "_DELAY",
    "_LOOKBACK",
    "_SWEEP",
    "_STEP",
    "_FILTER",
];

/// What the names of our streams begin with, so that a `RETRY_DELAY` of somebody else stays his.
const STREAM_BEGINNINGS: [&str; 2] = ["ESET_", "DEFENDER_"];

/// The setting with this name or alias.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name || setting.aliases.contains(&name))
}

/// The part before the ending, when `name` is a setting of a stream: `ESET_DETECTIONS`.
pub(super) fn stream_of(name: &str) -> Option<&str> {
    let stream = STREAM_ENDINGS
        .iter()
        .find_map(|ending| name.strip_suffix(ending))?;
    STREAM_BEGINNINGS
        .iter()
        .any(|beginning| stream.starts_with(beginning))
        .then_some(stream)
}

/// How a stream or a connection is spelt in the name of a setting.
pub fn in_capitals(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            character if character.is_ascii_alphanumeric() => character.to_ascii_uppercase(),
            _ => '_',
        })
        .collect()
}

/// The beginnings that nobody else's settings have: what is not a setting under them is meant to be one.
const BEGINNINGS: [&str; 4] = ["ESET_", "DEFENDER_", "LOGS_INGESTION_", "DCR_"];

/// `(name, what was probably meant)` of every variable that is nearly a setting. `used` are names
/// that are settings because a connection has that name.
pub(super) fn misspelt<'a>(
    environment: &'a Environment,
    used: &[String],
) -> Vec<(&'a str, &'static str)> {
    let known = || {
        SETTINGS
            .iter()
            .flat_map(|setting| setting.aliases.iter().copied().chain([setting.name]))
    };
    environment
        .names()
        // Below six letters too many names of other programs are near to one of ours.
        .filter(|name| name.len() >= 6)
        .filter(|name| setting(name).is_none() && stream_of(name).is_none())
        .filter(|name| !used.iter().any(|used| used == name))
        // Ours are in capitals, but for those of the Functions host.
        .filter_map(|name| {
            let capitals = name.to_ascii_uppercase();
            let is_ours = BEGINNINGS.iter().any(|ours| capitals.starts_with(ours));
            let near = nearest(&capitals, known()).or_else(|| nearest(name, known()));
            let near = near.or_else(|| is_ours.then(|| most_like(&capitals, known()))?);
            Some((name, near?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = SETTINGS
            .iter()
            .flat_map(|setting| setting.aliases.iter().copied().chain([setting.name]))
            .collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn near_names_are_warned_of_and_others_are_not() {
        let environment = Environment::from_iter(
            [
                "ESET_LOGN",
                "ESET_PASWORD",
                "EEST_REGION",
                "DCR_IMMUTABLE_IDS",
                "eset_products",
                "CONTOSO_ESET_PASSWORD",
                "A_ESET_PASSWORD",
                "ESET_LOGIN",
                "ESET_DETECTIONS_EVERY",
                "HOME",
                "LINK",
                "LOGNAME",
                "RETRY_DELAY",
                "AZURE_CLIENT_ID",
                "AzureWebJobStorage",
                "DEFENDER_TENANT",
                "ESET_PASSWD",
                "ESET_SOMETHING_ELSE",
                "KEY_BASE64",
                "PATH",
            ]
            .map(|name| (name, "x")),
        );
        assert_eq!(
            misspelt(&environment, &["A_ESET_PASSWORD".to_owned()]),
            [
                ("AzureWebJobStorage", "AzureWebJobsStorage"),
                ("DCR_IMMUTABLE_IDS", "DCR_IMMUTABLE_ID"),
                ("DEFENDER_TENANT", "DEFENDER_TENANT_ID"),
                ("EEST_REGION", "ESET_REGION"),
                ("ESET_LOGN", "ESET_LOGIN"),
                ("ESET_PASSWD", "ESET_PASSWORD"),
                ("ESET_PASWORD", "ESET_PASSWORD"),
                ("eset_products", "ESET_PRODUCTS"),
            ]
        );
    }

    #[test]
    fn a_stream_setting_is_one_of_our_streams() {
        assert_eq!(
            stream_of("ESET_DETECTIONS_LOOKBACK"),
            Some("ESET_DETECTIONS")
        );
        assert_eq!(stream_of("RETRY_DELAY"), None);
        assert_eq!(in_capitals("eset.cloud-office2"), "ESET_CLOUD_OFFICE2");
    }
}
