//! Advanced hunting: the event tables of Defender XDR, by queries to Microsoft Graph.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Connection, HEADERS, HUNTING, Source};
use crate::{
    core::{
        position::{
            cursor::{Basis, Slice},
            paging::{Page, Paging, Part},
            window::Window,
        },
        protocol::{
            endpoint::{Endpoint, TimeFilter},
            odata::{ErrorDialect, literal},
        },
    },
    error::{Error, Result},
    io::{
        exchange::{ApiRequest, Reply, RequestOptions},
        retry::Limits,
    },
};

mod tables;

pub(super) use tables::left_out;
pub use tables::{CAP, HuntingTable, all_known, table, tables, why_left};

/// The service gives a query three minutes.
const PATIENCE: Duration = Duration::from_secs(195);

/// How far back the probe looks for rows whose time of ingestion is known, or not.
const PROBED: TimeDelta = TimeDelta::hours(24);

/// The share of a tenant is counted anew every quarter of an hour.
const CYCLE: TimeDelta = TimeDelta::minutes(15);

/// One table of a connection.
pub struct Hunting {
    connection: Arc<Connection>,
    endpoint: &'static Endpoint,
    table: &'static HuntingTable,
}

impl Hunting {
    /// The stream of a table, if the endpoint is one.
    pub fn of(connection: &Arc<Connection>, endpoint: &'static Endpoint) -> Option<Self> {
        let TimeFilter::Kql(name) = endpoint.list.filter else {
            return None;
        };
        Some(Self {
            connection: Arc::clone(connection),
            endpoint,
            table: table(name)?,
        })
    }

    async fn query(&self, query: &str, limits: &Limits) -> Result<Reply> {
        let now = self.connection.clock().now();
        if let Some(until) = self.rests_until().filter(|until| now < *until) {
            return Err(self.used_up(until));
        }
        let body = Bytes::from(json!({ "Query": query }).to_string());
        let path = self.endpoint.list.path;
        let question = ApiRequest {
            name: self.endpoint.stream.to_owned(),
            method: Method::POST,
            url: self.connection.url(HUNTING, path),
            body: Some(("application/json; charset=utf-8", body)),
            has_position: false,
            manner: RequestOptions {
                headers: HEADERS,
                asks: Some(ErrorDialect::Hunting),
                patience: PATIENCE,
            },
        };
        let reply = self.connection.ask(HUNTING, &question, limits).await?;
        if let Reply::UsedUp(answer) = reply {
            let until = next_cycle(self.connection.clock().now());
            self.connection.hunting_rest().set(until);
            return Err(answer.explains(self.used_up(until)));
        }
        Ok(reply)
    }

    /// The probe's answer. What is none, the next page meets again, and says what it means.
    async fn probed(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        limits: &Limits,
    ) -> Result<Option<Bytes>> {
        let query = probe(self.table, from, to);
        match self.query(&query, limits).await? {
            Reply::Answer(response) => Ok(response.whole_body().await.ok()),
            _ => Ok(None),
        }
    }

    fn used_up(&self, until: DateTime<Utc>) -> Error {
        Error::transient(format!(
            "{}: the tenant's share of hunting is used up until {}; all its tables wait until then",
            self.endpoint.stream,
            until.format("%H:%M UTC")
        ))
    }
}

/// When the share is counted anew.
fn next_cycle(now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(CYCLE)
        .map_or(now + CYCLE, |begun| begun + CYCLE)
}

/// `datetime(2026-01-01T00:00:00.0000000Z)`.
fn datetime(time: DateTime<Utc>) -> String {
    format!("datetime({})", literal(time))
}

/// The rows of one part of a window.
fn rows(table: &HuntingTable, paging: Paging, part: &Part, by_ingestion: bool) -> String {
    let Window { from, to } = part.window;
    let (from, to) = (datetime(from), datetime(to));
    let time = if by_ingestion {
        "ingestion_time()"
    } else {
        "Timestamp"
    };
    // As it is: a row must be the same by either time, or it would land twice.
    let mut query = format!("{} | where {time} >= {from} and {time} < {to}", table.name);
    if let Some((share, shares)) = part.share {
        query = format!(
            "{query} | where hash({}, {shares}) == {share}",
            table.share_by
        );
    }
    let cap = match paging {
        Paging::Whole { cap } => cap,
        _ => CAP,
    };
    format!("{query} | take {cap}")
}

/// How many rows there are, and of how many the time of ingestion is known.
fn probe(table: &HuntingTable, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let (from, to) = (datetime(from), datetime(to));
    format!(
        "{} | where Timestamp > {from} and Timestamp <= {to} | extend it=ingestion_time() | \
         summarize n=count(), ok=countif(isnotnull(it))",
        table.name
    )
}

/// What the probe says: nothing without rows.
fn told(body: &[u8]) -> Option<Basis> {
    let (rows, known) = counted(body)?;
    match rows {
        0 => None,
        _ if rows == known => Some(Basis::Ingestion),
        _ => Some(Basis::Event),
    }
}

/// The probe's two numbers.
fn counted(body: &[u8]) -> Option<(u64, u64)> {
    #[derive(Deserialize)]
    struct QueryBody {
        #[serde(alias = "Results")]
        results: Vec<Value>,
    }
    let body: QueryBody = serde_json::from_slice(body).ok()?;
    let row = body.results.first()?;
    let number = |name: &str| {
        let value = row.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    Some((number("n")?, number("ok")?))
}

#[async_trait]
impl Source for Hunting {
    fn endpoint(&self) -> &'static Endpoint {
        self.endpoint
    }

    async fn page(
        &self,
        slice: &Slice,
        page: &Page,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)> {
        let records = self.endpoint.list.records;
        let Some(window) = slice.window() else {
            let what = "tables are read by windows".to_owned();
            return Ok((Reply::NotOffered(what.into()), records));
        };
        let part = page.part(window);
        let by_ingestion = matches!(slice, Slice::Ingested(_));
        let query = rows(self.table, self.endpoint.list.paging, &part, by_ingestion);
        Ok((self.query(&query, limits).await?, records))
    }

    fn rests_until(&self) -> Option<DateTime<Utc>> {
        self.connection.hunting_rest().until()
    }

    async fn basis(&self, limits: &Limits) -> Result<Option<Basis>> {
        let now = self.connection.clock().now();
        let answer = self.probed(now - PROBED, now, limits).await?;
        Ok(answer.and_then(|body| told(&body)))
    }

    async fn count(&self, window: Window, limits: &Limits) -> Result<Option<u64>> {
        let answer = self.probed(window.from, window.to, limits).await?;
        Ok(answer.and_then(|body| counted(&body)).map(|(rows, _)| rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn queries_have_the_shapes_that_were_agreed_on() {
        let window = Window {
            from: at("2026-01-01T00:00:00.123456789Z"),
            to: at("2026-01-01T01:00:00Z"),
        };
        let whole = Part::whole(window);
        let share = Part {
            window: Window {
                from: at("2026-01-01T00:00:00Z"),
                to: at("2026-01-01T00:00:01Z"),
            },
            share: Some((3, 8)),
            ..whole
        };
        let devices = table("DeviceEvents").unwrap();
        let mail = table("EmailEvents").unwrap();
        let cap = Paging::Whole { cap: CAP };
        let queries = [
            rows(devices, cap, &whole, true),
            rows(devices, cap, &whole, false),
            rows(devices, cap, &share, true),
            rows(mail, cap, &share, false),
            probe(mail, window.from, window.to),
        ];
        insta::assert_snapshot!(queries.join("\n"), @"
        DeviceEvents | where ingestion_time() >= datetime(2026-01-01T00:00:00.1234567Z) and ingestion_time() < datetime(2026-01-01T01:00:00.0000000Z) | take 30000
        DeviceEvents | where Timestamp >= datetime(2026-01-01T00:00:00.1234567Z) and Timestamp < datetime(2026-01-01T01:00:00.0000000Z) | take 30000
        DeviceEvents | where ingestion_time() >= datetime(2026-01-01T00:00:00.0000000Z) and ingestion_time() < datetime(2026-01-01T00:00:01.0000000Z) | where hash(DeviceId, 8) == 3 | take 30000
        EmailEvents | where Timestamp >= datetime(2026-01-01T00:00:00.0000000Z) and Timestamp < datetime(2026-01-01T00:00:01.0000000Z) | where hash(tostring(pack_all()), 8) == 3 | take 30000
        EmailEvents | where Timestamp > datetime(2026-01-01T00:00:00.1234567Z) and Timestamp <= datetime(2026-01-01T01:00:00.0000000Z) | extend it=ingestion_time() | summarize n=count(), ok=countif(isnotnull(it))
        ");
    }

    #[test]
    fn the_probe_decides_only_when_it_saw_rows() {
        let told = |text: &str| super::told(text.as_bytes());
        assert_eq!(
            told(r#"{"results":[{"n":7,"ok":7}]}"#),
            Some(Basis::Ingestion)
        );
        assert_eq!(
            told(r#"{"results":[{"n":"7","ok":"0"}]}"#),
            Some(Basis::Event)
        );
        assert_eq!(told(r#"{"results":[{"n":0,"ok":0}]}"#), None);
        assert_eq!(told(r#"{"Results":[]}"#), None);
        assert_eq!(told("nothing"), None);
    }

    #[test]
    fn the_share_is_counted_anew_every_quarter_of_an_hour() {
        let next = |text: &str| next_cycle(at(text)).to_rfc3339();
        assert_eq!(next("2026-01-01T10:14:59Z"), "2026-01-01T10:15:00+00:00");
        assert_eq!(next("2026-01-01T10:15:00Z"), "2026-01-01T10:30:00+00:00");
    }
}
