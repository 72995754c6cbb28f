//! The Logs Ingestion API, with its silence: unknown columns vanish, long strings are cut and old
//! times are rewritten, and the answer is `204` all the same.

use std::{collections::BTreeMap, io::Read};

use axum::http::StatusCode;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use super::{
    Inner,
    answer::{Answer, Incoming},
    options::SizeLimit,
    sync::lock,
};

/// The largest call.
pub const MAX_CALL: usize = 1_048_576;
/// The largest field; the rest of it is cut off.
pub const MAX_FIELD: usize = 65_536;
const MAX_INFLATED: u64 = 64 << 20;
const AUDIENCE: &str = "https://monitor.azure.com";

/// What one stream has received.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Received {
    /// The rows as the table holds them, oldest first; empty when rows are only counted.
    pub rows: Vec<Map<String, Value>>,
    /// Number of rows.
    pub count: u64,
    /// Number of accepted calls.
    pub calls: u64,
    /// Bytes of JSON before compression.
    pub bytes: u64,
    /// Bytes as sent.
    pub sent_bytes: u64,
}

impl Inner {
    /// `POST /dataCollectionRules/{dcr}/streams/{stream}`.
    pub(crate) fn ingest(&self, dcr: &str, stream: &str, incoming: &Incoming) -> Answer {
        match self.try_ingest(dcr, stream, incoming) {
            Ok(()) => Answer::status(StatusCode::NO_CONTENT),
            Err((status, code, message)) => {
                let body = json!({"error": {"code": code, "message": message}});
                Answer::json(status, body).with_header("x-ms-error-code", code)
            }
        }
    }

    fn try_ingest(&self, dcr: &str, stream: &str, incoming: &Incoming) -> Result<(), Refusal> {
        self.entra_allows(incoming, &[AUDIENCE])
            .map_err(|status| match status {
                StatusCode::FORBIDDEN => refuse(
                    status,
                    "OperationFailed",
                    "The authentication token \
                provided does not have access to ingest data for the data collection rule with \
                the immutable Id.",
                ),
                _ => refuse(
                    status,
                    "InvalidToken",
                    "The authentication token is missing or expired.",
                ),
            })?;
        if incoming.parameter("api-version") != Some("2023-01-01") {
            return Err(invalid(
                "InvalidApiVersion",
                "The api-version is missing or unknown.",
            ));
        }
        let sent = incoming.body.len();
        check_size(sent, self.options.size_limit != SizeLimit::Uncompressed)?;
        let body = inflated(incoming)?;
        check_size(body.len(), self.options.size_limit != SizeLimit::AsSent)?;
        if !incoming
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"))
        {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(refuse(
                status,
                "InvalidContentType",
                "Content-Type must be application/json.",
            ));
        }
        if dcr != self.options.dcr {
            let text = "Data collection rule with the immutable Id not found.";
            return Err(refuse(StatusCode::NOT_FOUND, "NotFound", text));
        }
        let columns = self.options.streams.get(stream).ok_or_else(|| {
            refuse(
                StatusCode::NOT_FOUND,
                "InvalidStream",
                "The stream was not configured.",
            )
        })?;
        let unreadable = |_| invalid("InvalidPayload", "The payload is not an array of objects.");
        let mut rows: Vec<Map<String, Value>> = Vec::new();
        let count = if let Some(bulk) = &self.bulk {
            bulk.take(&body).map_err(unreadable)?
        } else {
            rows = serde_json::from_slice(&body).map_err(unreadable)?;
            rows.len()
        };
        let now = self.clock.now();
        for row in &mut rows {
            land(row, columns.as_deref(), now);
        }
        let mut received = lock(&self.received);
        let stream = received.entry(stream.to_owned()).or_default();
        stream.count += count as u64;
        stream.calls += 1;
        stream.bytes += body.len() as u64;
        stream.sent_bytes += sent as u64;
        if self.options.keep_rows {
            stream.rows.append(&mut rows);
        }
        Ok(())
    }
}

/// True when the rows of a call are not only the connector's own, about its runs.
pub(crate) fn holds_records(incoming: &Incoming) -> bool {
    let rows = inflated(incoming).ok();
    let rows: Option<Vec<Map<String, Value>>> =
        rows.and_then(|body| serde_json::from_slice(&body).ok());
    let mut rows = rows.into_iter().flatten();
    rows.any(|row| {
        row.get("providerName")
            .is_none_or(|name| name != "sentinel-connector")
    })
}

/// Everything that was received, by stream.
pub(crate) type ReceivedByStream = BTreeMap<String, Received>;

type Refusal = (StatusCode, &'static str, String);

fn refuse(status: StatusCode, code: &'static str, message: &str) -> Refusal {
    (status, code, message.to_owned())
}

fn invalid(code: &'static str, message: &str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, code, message)
}

fn check_size(size: usize, counts: bool) -> Result<(), Refusal> {
    if !counts || size <= MAX_CALL {
        return Ok(());
    }
    Err((
        StatusCode::PAYLOAD_TOO_LARGE,
        "ContentLengthLimitExceeded",
        format!(
            "Maximum allowed content length: {MAX_CALL} bytes (1 MB). Provided content length: \
             {size} bytes."
        ),
    ))
}

fn inflated(incoming: &Incoming) -> Result<Bytes, Refusal> {
    match incoming.header("content-encoding") {
        None | Some("identity") => Ok(incoming.body.clone()),
        Some("gzip") => {
            let mut body = Vec::new();
            MultiGzDecoder::new(incoming.body.as_ref())
                .take(MAX_INFLATED)
                .read_to_end(&mut body)
                .map_err(|_| invalid("InvalidPayload", "The payload is not valid gzip."))?;
            Ok(body.into())
        }
        Some(_) => Err(invalid("InvalidContentEncoding", "Only gzip is supported.")),
    }
}

/// Makes of a row what the table will hold of it.
fn land(row: &mut Map<String, Value>, columns: Option<&[String]>, now: DateTime<Utc>) {
    if let Some(columns) = columns {
        row.retain(|name, _| columns.contains(name));
    }
    for value in row.values_mut() {
        let text = match value {
            Value::String(text) => std::mem::take(text),
            Value::Array(_) | Value::Object(_) => match value.to_string() {
                text if text.len() <= MAX_FIELD => continue,
                text => text,
            },
            _ => continue,
        };
        *value = Value::String(cut(text));
    }
    let time = row.get("TimeGenerated").and_then(Value::as_str);
    let time = time.and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let kept = time
        .is_some_and(|time| now - TimeDelta::days(2) <= time && time <= now + TimeDelta::days(1));
    if !kept {
        let now = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        row.insert("TimeGenerated".to_owned(), now.into());
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_FIELD {
        let boundary = (0..=MAX_FIELD).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(boundary.unwrap_or(0));
    }
    text
}
