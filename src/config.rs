//! Settings: the only place that reads the environment, and it reads a map.
//!
//! [`Settings::load`] does no IO, so `check` can run it offline, and it collects everything that
//! is wrong, not just the first. One struct per concern; each field names its setting, its default
//! and what happens when it is missing. [`SETTINGS`] lists them all.

use std::path::PathBuf;

use reader::Reader;

use crate::{core::spelling::hint, error::Error};

mod azure;
mod connection;
mod defender;
mod environment;
mod eset;
mod names;
mod parts;
mod place;
mod reader;
mod routes;
mod streams;
mod telemetry;
mod values;

#[cfg(test)]
mod azure_tests;
#[cfg(test)]
mod tests;

pub use azure::{AzureStorage, FederatedIdentity, IdentitySettings, SecretSource};
pub(crate) use connection::elements;
pub use connection::{BrokenConnection, Connection, DEFAULT_CONNECTION, Source};
pub use defender::DefenderSettings;
pub use environment::Environment;
pub use eset::{EsetSettings, Region};
pub use names::{SETTINGS, Scope, Setting, in_capitals};
pub use parts::{LogSettings, Price, RunSettings, SinkSettings, StorageSettings, TimeGenerated};
pub use place::ListPlace;
pub use reader::{Problem, Problems};
pub use routes::Route;
pub use streams::StreamSettings;
pub use telemetry::{Sampler, TelemetrySettings};

/// Who started the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The Functions host: nothing is kept in a file by accident.
    Host,
    /// Somebody on a command line: the embedded parts, unless the settings say otherwise.
    Local,
}

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The connections; empty when nothing about a source is set, and then there is nothing to do.
    pub connections: Vec<Connection>,
    /// Those of which nothing can be pulled, where there are others.
    pub broken: Vec<BrokenConnection>,
    /// The names of those that are switched off in the list.
    pub disabled: Vec<String>,
    /// How a run goes.
    pub run: RunSettings,
    /// Where rows go.
    pub sink: SinkSettings,
    /// `ROUTES`: streams whose rows go to a table of their own; none by default.
    pub routes: Vec<Route>,
    /// Where positions are kept.
    pub storage: StorageSettings,
    /// Who we are to Azure.
    pub identity: IdentitySettings,
    /// `KEY_VAULT_URL`: where secrets are that the settings don't hold; by default nowhere.
    pub key_vault: Option<String>,
    /// `CONNECTOR_DATA`: folder of the embedded file, by default `./connector-data`.
    pub data: PathBuf,
    /// `EXTRA_CA_FILE`: PEM of a further root; by default the system's roots alone are trusted.
    pub extra_ca: Option<PathBuf>,
    /// What is logged, and how.
    pub log: LogSettings,
    /// What is sent by OpenTelemetry; nothing without `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub telemetry: Option<TelemetrySettings>,
    /// `WEBSITE_SITE_NAME`: the app on which it runs, which health rows name; elsewhere none.
    pub app: Option<String>,
    /// What looks strange but may be meant.
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// Reads them all. The problems come with the warnings that were found on the way.
    pub fn load(environment: &Environment, mode: Mode) -> Result<Self, Problems> {
        let mut noted = Problems::default();
        let (connections, broken, disabled) = connection::read(environment, &mut noted);

        let reader = &mut Reader::new(environment, &mut noted);
        let run = RunSettings::read(reader);
        let sink = SinkSettings::read(reader, environment, mode);
        let routes = reader.or("ROUTES", Vec::new(), routes::routes);
        let storage = StorageSettings::read(reader, environment, mode);
        if let (Ok(run), Ok(StorageSettings::Embedded)) = (&run, &storage)
            && run.scale_out
        {
            let text = "is `queue`, and the queue lies in the storage account, which a file is not: set \
                        `STORAGE=azure`, or `SCALE_OUT=off`";
            reader.problem("SCALE_OUT", text);
        }
        let identity = IdentitySettings::read(reader);
        let key_vault = reader.optional("KEY_VAULT_URL", values::https_url);
        let data = reader.or("CONNECTOR_DATA", PathBuf::from("./connector-data"), path);
        let extra_ca = reader.optional("EXTRA_CA_FILE", path);
        let log = LogSettings::read(reader, mode);
        // Whatever is wrong with it is no reason to pull nothing.
        let telemetry = TelemetrySettings::load(environment).unwrap_or_else(|wrong| {
            noted
                .warnings
                .extend(wrong.problems.into_iter().map(|mut problem| {
                    problem.text.push_str(": until then nothing is sent");
                    problem
                }));
            None
        });
        let reader = &mut Reader::new(environment, &mut noted);
        let names = connections.iter().map(|one| &one.name);
        let names = names
            .chain(broken.iter().map(|one| &one.name))
            .chain(&disabled);
        warn_of_misspelt(reader, environment, &connection::secret_names(names));

        // Everything may be there and still a connection be missing: that one's problems count.
        let azure = (identity, key_vault);
        match (run, (sink, routes), storage, azure, data, extra_ca, log) {
            (
                Ok(run),
                (Ok(sink), Ok(routes)),
                Ok(storage),
                (Ok(identity), Ok(key_vault)),
                Ok(data),
                Ok(extra_ca),
                Ok(log),
            ) if noted.problems.is_empty() && (broken.is_empty() || !connections.is_empty()) => {
                Ok(Self {
                    connections,
                    broken,
                    disabled,
                    run,
                    sink,
                    routes,
                    storage,
                    identity,
                    key_vault,
                    data,
                    extra_ca,
                    log,
                    telemetry,
                    app: environment.get("WEBSITE_SITE_NAME").map(str::to_owned),
                    warnings: noted.warnings,
                })
            }
            _ => {
                let own = broken.into_iter().flat_map(|one| one.problems);
                noted.problems = own.chain(noted.problems).collect();
                Err(noted)
            }
        }
    }

    /// What is wrong with connections of which nothing can be pulled.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.broken.iter().flat_map(|one| &one.problems)
    }

    /// Leaves this connection alone.
    pub fn keep_connection(&mut self, name: &str) -> Result<(), Error> {
        let broken = std::mem::take(&mut self.broken);
        if let Some(broken) = broken.into_iter().find(|one| one.name == name) {
            return Err(broken.error());
        }
        if self.disabled.iter().any(|disabled| disabled == name) {
            return Err(Error::config(format!(
                "connection `{name}` is disabled: `connections disable {name} --undo` switches it on"
            )));
        }
        if !self.connections.iter().any(|one| one.name == name) {
            let names = self.connections.iter().map(|one| one.name.as_str());
            let hint = hint(name, names);
            let known: Vec<String> = self
                .connections
                .iter()
                .map(|one| format!("`{}`", one.name))
                .collect();
            let known = match &known[..] {
                [] => "none is configured".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            return Err(Error::config(format!(
                "there is no connection `{name}`; {known}{hint}"
            )));
        }
        self.connections.retain(|one| one.name == name);
        Ok(())
    }
}

fn warn_of_misspelt(reader: &mut Reader<'_>, environment: &Environment, used: &[String]) {
    for (name, near) in names::misspelt(environment, used) {
        reader.warn(name, format!("is unknown; did you mean `{near}`?"));
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "it stands where a parser is expected"
)]
fn path(value: &str) -> values::Parsed<PathBuf> {
    Ok(PathBuf::from(value))
}
