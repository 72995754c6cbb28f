//! The settings of the app's parts: runs, sink, storage, log.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::{
    Mode,
    azure::AzureStorage,
    environment::Environment,
    reader::{Problems, Read, Reader},
    values,
};
use crate::logging::Format;

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSettings {
    /// `RUN_BUDGET_SECONDS`, 240 by default. The host kills the process at `functionTimeout`, so it
    /// has to stay below that.
    pub budget: Duration,
    /// `STREAMS_AT_ONCE`, 32 by default: streams that share nothing go side by side, so many of them.
    pub streams_at_once: usize,
    /// `SCALE_OUT`, off by default: with `queue` timers plan, and workers pull.
    pub scale_out: bool,
    /// `TIME_GENERATED`, ingestion by default.
    pub time_generated: TimeGenerated,
    /// `OUTBOX_MAX_BYTES`, a gigabyte by default: above it, pulling pauses.
    pub outbox_max_bytes: u64,
    /// `PRICE_PER_GB`.
    pub price: Option<Price>,
}

/// What a gigabyte of rows costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Thousandths of the currency for a billion bytes.
    pub thousandths: u32,
    /// Three letters, or none.
    pub currency: [u8; 3],
}

impl Price {
    /// The currency's letters.
    pub fn currency(&self) -> &str {
        std::str::from_utf8(&self.currency)
            .unwrap_or_default()
            .trim()
    }
}

/// What a row's `TimeGenerated` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeGenerated {
    /// When it was pushed: scheduled rules then never miss a late event.
    Ingestion,
    /// When it happened.
    Event,
}

/// `SINK`. Embedded by default on a command line; under the host it must be set, or
/// `LOGS_INGESTION_ENDPOINT` must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkSettings {
    /// Tables in the embedded file.
    Embedded,
    /// The Logs Ingestion API.
    LogsIngestion {
        /// `LOGS_INGESTION_ENDPOINT`, or `ENDPOINT_URI`. Required.
        endpoint: String,
        /// `LOGS_INGESTION_SCOPE`; by default that of the endpoint's cloud.
        scope: String,
        /// `DCR_IMMUTABLE_ID`, or `DCR_IMMUTABLEID`. Required.
        dcr_immutable_id: String,
        /// `DCR_STREAM`, or `STREAM_NAME`; by default `Custom-IntegrationTable_CL`.
        stream: String,
        /// `DCR_STREAM_INCIDENTS`, or `STREAM_NAME_INCIDENTS`; by default
        /// `Custom-IntegrationTableIncidents_CL`.
        stream_incidents: String,
    },
}

/// `STORAGE`. Embedded by default on a command line; under the host it must be set, or
/// `AzureWebJobsStorage` must be.
#[derive(Debug, Clone)]
pub enum StorageSettings {
    /// The embedded file.
    Embedded,
    /// Table Storage and Blob Storage.
    Azure(AzureStorage),
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// `LOG_LEVEL`; by default `info` under the host, and `warn` on a command line, which shows itself
    /// what it does.
    pub level: LevelFilter,
    /// `LOG_FORMAT`; by default JSON under the host and text otherwise.
    pub format: Format,
}

impl RunSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Read<Self> {
        // Below `functionTimeout` of host.json, with time to save and to answer.
        let budget = reader.or("RUN_BUDGET_SECONDS", 240, values::number(5, 540));
        let streams_at_once = reader.or("STREAMS_AT_ONCE", 32, values::number(1, 256));
        let words = [("off", false), ("queue", true)];
        let scale_out = reader.or("SCALE_OUT", false, values::one_of(&words));
        let time_generated = reader.or(
            "TIME_GENERATED",
            TimeGenerated::Ingestion,
            values::one_of(&[
                ("ingestion", TimeGenerated::Ingestion),
                ("event", TimeGenerated::Event),
            ]),
        );
        let outbox = reader.or("OUTBOX_MAX_BYTES", 1_000_000_000, values::bytes);
        let price = reader.optional("PRICE_PER_GB", price);
        Ok(Self {
            budget: Duration::from_secs(budget?.into()),
            streams_at_once: usize::try_from(streams_at_once?).unwrap_or(usize::MAX),
            scale_out: scale_out?,
            time_generated: time_generated?,
            outbox_max_bytes: outbox?,
            price: price?,
        })
    }
}

/// A price: `2.99`, `2.99 USD`.
fn price(value: &str) -> values::Parsed<Price> {
    let (number, currency) = value.split_once(' ').unwrap_or((value, ""));
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = (is_number(whole) && is_number(part) && part.len() <= 3)
        .then(|| format!("{whole}{part:0<3}").parse().ok())
        .flatten();
    let currency = currency.trim();
    let letters: Option<[u8; 3]> = match currency.as_bytes() {
        [] => Some(*b"   "),
        bytes => bytes.try_into().ok(),
    };
    let letters = letters.filter(|letters| {
        letters
            .iter()
            .all(|it| *it == b' ' || it.is_ascii_uppercase())
    });
    thousandths
        .zip(letters)
        .map(|(thousandths, currency)| Price {
            thousandths,
            currency,
        })
        .ok_or_else(|| {
            format!(
                "is `{value}`; it must be a price such as `2.99 USD`, with three decimals at most"
            )
        })
}

/// Where something is kept or sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TargetPlace {
    Embedded,
    Azure,
}

impl SinkSettings {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        environment: &Environment,
        mode: Mode,
    ) -> Read<Self> {
        let words = [
            ("embedded", TargetPlace::Embedded),
            ("logs-ingestion", TargetPlace::Azure),
        ];
        let place = match reader.optional("SINK", values::one_of(&words))? {
            Some(place) => place,
            None if must_choose(environment, mode) => {
                if !reader.is_set("LOGS_INGESTION_ENDPOINT") {
                    return Err(reader.problem(
                        "SINK",
                        "is not set, so rows would go nowhere: set `LOGS_INGESTION_ENDPOINT` and \
                         `DCR_IMMUTABLE_ID`, or `SINK=embedded` to keep them in a file",
                    ));
                }
                TargetPlace::Azure
            }
            None => TargetPlace::Embedded,
        };
        if place == TargetPlace::Embedded {
            warn_of_files_in_azure("SINK", reader, environment);
            return Ok(Self::Embedded);
        }
        let endpoint = reader.required("LOGS_INGESTION_ENDPOINT", values::url);
        let cloud = endpoint
            .as_ref()
            .map_or(SCOPES[0].1, |endpoint| scope_of(endpoint));
        let scope = reader.or("LOGS_INGESTION_SCOPE", cloud.to_owned(), scope);
        let dcr = reader.required("DCR_IMMUTABLE_ID", dcr_immutable_id);
        let mut stream = |name, default: &str| reader.or(name, default.to_owned(), dcr_stream);
        let first = stream("DCR_STREAM", "Custom-IntegrationTable_CL");
        let incidents = stream(
            "DCR_STREAM_INCIDENTS",
            "Custom-IntegrationTableIncidents_CL",
        );
        Ok(Self::LogsIngestion {
            endpoint: endpoint?,
            scope: scope?,
            dcr_immutable_id: dcr?,
            stream: first?,
            stream_incidents: incidents?,
        })
    }
}

impl StorageSettings {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        environment: &Environment,
        mode: Mode,
    ) -> Read<Self> {
        let words = [
            ("embedded", TargetPlace::Embedded),
            ("azure", TargetPlace::Azure),
        ];
        match reader.optional("STORAGE", values::one_of(&words))? {
            Some(TargetPlace::Azure) => AzureStorage::read(reader).map(Self::Azure),
            None if must_choose(environment, mode) => {
                if !AzureStorage::wanted(reader) {
                    return Err(reader.problem(
                        "STORAGE",
                        "is not set, so positions would be kept nowhere: set \
                         `AzureWebJobsStorage__accountName`, or `STORAGE=embedded` to keep them in \
                         a file",
                    ));
                }
                AzureStorage::read(reader).map(Self::Azure)
            }
            place @ (Some(TargetPlace::Embedded) | None) => {
                warn_of_files_in_azure("STORAGE", reader, environment);
                if place.is_none() && reader.is_set("AzureWebJobsStorage__accountName") {
                    reader.warn(
                        "STORAGE",
                        "is not set, so positions are those of the file in `CONNECTOR_DATA`: set \
                         `STORAGE=azure` to work on those of `AzureWebJobsStorage__accountName`",
                    );
                }
                Ok(Self::Embedded)
            }
        }
    }
}

impl LogSettings {
    /// The log settings alone, with defaults for what is wrong: problems with the settings have to
    /// be logged, too.
    pub fn load(environment: &Environment, mode: Mode) -> Self {
        let mut noted = Problems::default();
        Self::read(&mut Reader::new(environment, &mut noted), mode).unwrap_or(Self {
            level: Self::usual_level(mode),
            format: Self::usual(mode),
        })
    }

    fn usual(mode: Mode) -> Format {
        match mode {
            Mode::Host => Format::Json,
            Mode::Local => Format::Text,
        }
    }

    fn usual_level(mode: Mode) -> LevelFilter {
        match mode {
            Mode::Host => LevelFilter::INFO,
            Mode::Local => LevelFilter::WARN,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, mode: Mode) -> Read<Self> {
        let level = reader.or(
            "LOG_LEVEL",
            Self::usual_level(mode),
            values::one_of(&[
                ("error", LevelFilter::ERROR),
                ("warn", LevelFilter::WARN),
                ("info", LevelFilter::INFO),
                ("debug", LevelFilter::DEBUG),
                ("trace", LevelFilter::TRACE),
            ]),
        );
        let words = [("text", Format::Text), ("json", Format::Json)];
        let format = reader.or("LOG_FORMAT", Self::usual(mode), values::one_of(&words));
        Ok(Self {
            level: level?,
            format: format?,
        })
    }
}

/// Under the host, and anywhere in Azure, a file is kept only by somebody who wants one.
fn must_choose(environment: &Environment, mode: Mode) -> bool {
    mode == Mode::Host || environment.in_azure()
}

fn warn_of_files_in_azure(name: &str, reader: &mut Reader<'_>, environment: &Environment) {
    if environment.in_azure() {
        reader.warn(
            name,
            "is `embedded`: in Azure the file is lost with the instance",
        );
    }
}

/// The scopes of the clouds, by the end of an endpoint's host
/// (`learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview`). The two slashes
/// are what the Azure SDKs send.
const SCOPES: [(&str, &str); 3] = [
    (".com", "https://monitor.azure.com//.default"),
    (".us", "https://monitor.azure.us//.default"),
    (".cn", "https://monitor.azure.cn//.default"),
];

fn scope_of(endpoint: &str) -> &'static str {
    let uri: Option<http::Uri> = endpoint.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    SCOPES
        .iter()
        .find(|(end, _)| host.ends_with(end))
        .map_or(SCOPES[0].1, |(_, scope)| scope)
}

fn scope(value: &str) -> values::Parsed<String> {
    if value.starts_with("https://") && value.ends_with("/.default") {
        return Ok(value.to_owned());
    }
    Err(format!(
        "is `{value}`; it must look like `https://monitor.azure.com/.default`"
    ))
}

fn dcr_immutable_id(value: &str) -> values::Parsed<String> {
    let plain = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain && value.starts_with("dcr-") {
        return Ok(value.to_owned());
    }
    Err(
        "must be the rule's immutable id, `dcr-` and 32 digits (not its name or resource id)"
            .to_owned(),
    )
}

fn dcr_stream(value: &str) -> values::Parsed<String> {
    let plain = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if plain && value.starts_with("Custom-") {
        return Ok(value.to_owned());
    }
    Err(format!(
        "is `{value}`; it must be a stream of the rule, such as `Custom-IntegrationTable_CL`"
    ))
}
