//! Advanced hunting: exactly the questions that the connector asks, and the service's error for
//! every other one.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Bends, Outcome, errors, list};
use crate::simulator::{
    Inner,
    answer::{Answer, Incoming},
    bulk::{HUNTING_TABLE, Made},
    kind::Kind,
    listing::Listing,
    world::{
        defender::{Basis, Table, parse},
        lane::DAY,
    },
};

const CONTEXT: &str = "graph/v1.0/$metadata#microsoft.graph.security.huntingQueryResults";

/// How far back anybody can see.
const REACH: i64 = 30 * DAY;

/// The smallest step of time.
const TICK: i64 = 100;

/// How many rows the size of an answer is estimated from.
const SAMPLE: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Body {
    // The documentation writes the members in upper case, the SDKs in lower case.
    #[serde(alias = "query")]
    query: String,
    #[serde(alias = "timespan")]
    timespan: Option<String>,
}

/// What a question asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// How many rows there are, and how many of them have a time of ingestion.
    Count,
    /// At most so many rows of a share of the table.
    Rows {
        take: usize,
        share: Option<(Column, u64, u64)>,
    },
}

/// What a table is split by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    DeviceId,
    WholeRow,
}

/// A question.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    table: String,
    basis: Basis,
    /// Half-open.
    window: (i64, i64),
    wish: Wish,
}

impl Inner {
    /// `POST /v1.0/security/runHuntingQuery`.
    pub(super) fn hunting(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let json = incoming
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        if !json {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(errors::graph(
                status,
                "BadRequest",
                "The content type is not supported.",
            ));
        }
        let body: Body = serde_json::from_slice(&incoming.body)
            .map_err(|_| bad("The request body is not valid."))?;
        let span =
            span(body.timespan.as_deref()).ok_or_else(|| bad("The timespan is not valid."))?;
        let question = Question::parse(&body.query)
            .ok_or_else(|| bad("A recognition error occurred. Fix syntax errors in your query."))?;
        let missing = self
            .options
            .defender
            .missing_tables
            .contains(&question.table);
        let table = self
            .world
            .defender()
            .table(&question.table)
            .filter(|_| !missing);
        let table = table.ok_or_else(|| unknown_table(&question.table))?;
        let (from, to) = question.window;
        let nulls = bends.has(Kind::NullIngestion);
        // Comparing with null is never true.
        let window = match (question.basis, bends.bunch()) {
            (Basis::Ingested, _) if nulls => (0, 0),
            (Basis::Ingested, Some(bunch)) => (bunched(from, bunch), bunched(to, bunch)),
            _ => (from, to),
        };
        let reach = |number: &u64| table.happened(*number) > now - span;
        let numbers = table
            .numbers(question.basis, window.0, window.1, now)
            .filter(reach);
        if let (Some(Made::Hunting(bulk)), HUNTING_TABLE) = (self.made(), table.name.as_str()) {
            return match question.wish {
                Wish::Count => {
                    let count = usize::try_from(bulk.count(from, to)).unwrap_or(usize::MAX);
                    Ok(counted(count, count, incoming))
                }
                Wish::Rows { share: Some(_), .. } => Err(preempted()),
                Wish::Rows { take, share: None } => {
                    let head = head(&schema(table), incoming);
                    Ok(Answer::written(bulk.answer(&head, (from, to), take)))
                }
            };
        }
        match question.wish {
            Wish::Count => {
                let count = numbers.count();
                Ok(counted(count, if nulls { 0 } else { count }, incoming))
            }
            Wish::Rows { take, share } => {
                let mine = |number: &u64| self.is_in_share(table, share, *number);
                if share.is_some_and(|(column, ..)| {
                    (column == Column::DeviceId) != table.has("DeviceId")
                }) {
                    return Err(bad(
                        "Failed to resolve scalar expression named 'DeviceId'. Fix semantic errors in your query.",
                    ));
                }
                let most = self.options.defender.hunting_rows.min(bends.row_cap());
                let most = take.min(most);
                let numbers: Vec<u64> = numbers.filter(mine).take(most).collect();
                self.rows(table, numbers, incoming)
            }
        }
    }

    fn is_in_share(&self, table: &Table, share: Option<(Column, u64, u64)>, number: u64) -> bool {
        share.is_none_or(|(_, modulus, rest)| {
            self.world.defender().event_shard(table, number, modulus) == rest
        })
    }

    fn rows(&self, table: &Table, numbers: Vec<u64>, incoming: &Incoming) -> Outcome {
        let defender = self.world.defender();
        let count = numbers.len();
        let row = {
            let (world, name) = (Arc::clone(&self.world), table.name.clone());
            move |number: u64| -> Option<Value> {
                let table = world.defender().table(&name)?;
                Some(world.defender().event(table, number))
            }
        };
        let sample = numbers
            .iter()
            .take(SAMPLE)
            .map(|number| defender.event(table, *number));
        let sizes: Vec<usize> = sample.map(|row| row.to_string().len()).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len().max(1);
        if mean * count > self.options.defender.hunting_bytes {
            return Err(too_big());
        }
        Ok(list::of(Listing {
            before: head(&schema(table), incoming),
            list: "results",
            count,
            records: Box::new(numbers.into_iter().filter_map(row)),
            after: Map::new(),
        }))
    }
}

/// The columns of an answer.
fn schema(table: &Table) -> Vec<Value> {
    let columns = table
        .columns
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.name()));
    columns.map(column).collect()
}

fn head(schema: &[Value], incoming: &Incoming) -> Map<String, Value> {
    let mut head = list::single(
        "@odata.context",
        json!(format!("{}/{CONTEXT}", incoming.origin)),
    );
    head.insert("schema".to_owned(), json!(schema));
    head
}

fn column((name, kind): (&str, &str)) -> Value {
    json!({"name": name, "type": kind})
}

fn counted(count: usize, ok: usize, incoming: &Incoming) -> Answer {
    let schema = [("n", "Int64"), ("ok", "Int64")].map(column);
    list::of(Listing {
        before: head(&schema, incoming),
        list: "results",
        count: 1,
        records: Box::new(std::iter::once(json!({"n": count, "ok": ok}))),
        after: Map::new(),
    })
}

/// How far back `Timespan` lets the query see: `P1D`, `PT6H`, or as far as anybody can.
fn span(text: Option<&str>) -> Option<i64> {
    let Some(text) = text else { return Some(REACH) };
    let hours = match text
        .strip_prefix("PT")
        .and_then(|rest| rest.strip_suffix('H'))
    {
        Some(hours) => hours.parse::<i64>().ok()?,
        None => {
            24 * text
                .strip_prefix('P')?
                .strip_suffix('D')?
                .parse::<i64>()
                .ok()?
        }
    };
    Some((hours * DAY / 24).min(REACH))
}

/// From when on rows are ingested at `time` or later, when all of a bunch are at its end.
fn bunched(time: i64, bunch: i64) -> i64 {
    (time - 1).div_euclid(bunch) * bunch + TICK
}

impl Question {
    /// None for anything that the connector does not ask.
    fn parse(query: &str) -> Option<Self> {
        let (table, rest) = query.split_once(" | where ")?;
        if table.is_empty() || !table.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            return None;
        }
        let table = table.to_owned();
        if let Some(rest) = rest.strip_prefix("Timestamp > datetime(") {
            let (low, rest) = time(rest)?;
            let (high, rest) = time(rest.strip_prefix(" and Timestamp <= datetime(")?)?;
            let asks = rest
                == " | extend it=ingestion_time() | summarize n=count(), ok=countif(isnotnull(it))";
            return asks.then_some(Self {
                table,
                basis: Basis::Happened,
                // Ticks are whole, so this is the same window, half-open.
                window: (low + 100, high + 100),
                wish: Wish::Count,
            });
        }
        let (name, basis) = if rest.starts_with("ingestion_time()") {
            ("ingestion_time()", Basis::Ingested)
        } else {
            ("Timestamp", Basis::Happened)
        };
        let rest = rest.strip_prefix(name)?.strip_prefix(" >= datetime(")?;
        let (low, rest) = time(rest)?;
        let rest = rest.strip_prefix(" and ")?.strip_prefix(name)?;
        let (high, mut rest) = time(rest.strip_prefix(" < datetime(")?)?;
        let mut share = None;
        if let Some(split) = rest.strip_prefix(" | where hash(") {
            let (column, split) = match split.strip_prefix("DeviceId, ") {
                Some(split) => (Column::DeviceId, split),
                None => (
                    Column::WholeRow,
                    split.strip_prefix("tostring(pack_all()), ")?,
                ),
            };
            let (modulus, split) = number(split)?;
            let (remainder, split) = number(split.strip_prefix(") == ")?)?;
            share = Some((column, modulus, remainder)).filter(|_| remainder < modulus);
            share?;
            rest = split;
        }
        let (take, rest) = number(rest.strip_prefix(" | take ")?)?;
        rest.is_empty().then_some(Self {
            table,
            basis,
            window: (low, high),
            wish: Wish::Rows {
                take: usize::try_from(take).ok()?,
                share,
            },
        })
    }
}

/// A literal of seven digits, up to its bracket.
fn time(text: &str) -> Option<(i64, &str)> {
    let (time, rest) = text.split_once(')')?;
    let exact = time.len() == "2026-03-04T10:00:00.0000000Z".len() && time.ends_with('Z');
    Some((parse(time).filter(|_| exact)?, rest))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

fn bad(message: &str) -> Answer {
    errors::graph(StatusCode::BAD_REQUEST, "BadRequest", message)
}

/// 400 for a table that is not deployed, in the words for any name that nobody knows.
pub(super) fn unknown_table(name: &str) -> Answer {
    bad(&format!(
        "'where' operator: Failed to resolve table or column expression named '{name}'. Fix semantic \
         errors in your query."
    ))
}

/// 400 for a result that is too large.
pub(super) fn too_big() -> Answer {
    bad(
        "Query execution has exceeded the allowed result size. Optimize your query by limiting the \
         number of results and try again.",
    )
}

/// 400 for a query that was stopped at a limit.
pub(super) fn preempted() -> Answer {
    bad(
        "Query execution has exceeded the allowed limits. The query execution was preempted. \
         Optimize your query and try again.",
    )
}

/// 400 for a query that took too long.
pub(super) fn timed_out() -> Answer {
    bad("Query exceeded the timeout period.")
}

/// 429 for a tenant that has used up its share of the processors.
pub(super) fn out_of_cpu() -> Answer {
    let message = "You have exceeded processing resources allocated to this tenant. You can run \
                   queries again in 00:12:30.";
    errors::graph(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: &str = "datetime(2026-03-04T10:00:00.0000000Z)";
    const HIGH: &str = "datetime(2026-03-04T11:00:00.1234567Z)";

    #[test]
    fn the_questions_of_the_connector_are_understood() {
        let (low, high) = (
            parse("2026-03-04T10:00:00Z").unwrap(),
            parse("2026-03-04T11:00:00.1234567Z").unwrap(),
        );
        let question = |basis, window, wish| Question {
            table: "DeviceEvents".to_owned(),
            basis,
            window,
            wish,
        };
        let rows = |take, share| Wish::Rows { take, share };
        for (query, expected) in [
            (
                format!(
                    "Timestamp > {LOW} and Timestamp <= {HIGH} | extend it=ingestion_time() | summarize n=count(), ok=countif(isnotnull(it))"
                ),
                question(Basis::Happened, (low + 100, high + 100), Wish::Count),
            ),
            (
                format!("ingestion_time() >= {LOW} and ingestion_time() < {HIGH} | take 30000"),
                question(Basis::Ingested, (low, high), rows(30_000, None)),
            ),
            (
                format!("Timestamp >= {LOW} and Timestamp < {HIGH} | take 5"),
                question(Basis::Happened, (low, high), rows(5, None)),
            ),
            (
                format!(
                    "ingestion_time() >= {LOW} and ingestion_time() < {HIGH} | where hash(DeviceId, 8) == 3 | take 9"
                ),
                question(
                    Basis::Ingested,
                    (low, high),
                    rows(9, Some((Column::DeviceId, 8, 3))),
                ),
            ),
            (
                format!(
                    "Timestamp >= {LOW} and Timestamp < {HIGH} | where hash(tostring(pack_all()), 4) == 0 | take 9"
                ),
                question(
                    Basis::Happened,
                    (low, high),
                    rows(9, Some((Column::WholeRow, 4, 0))),
                ),
            ),
        ] {
            let query = format!("DeviceEvents | where {query}");
            assert_eq!(Question::parse(&query), Some(expected), "{query}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for query in [
            "DeviceEvents".to_owned(),
            "DeviceEvents | take 5".to_owned(),
            format!("DeviceEvents | where Timestamp >= {LOW} and Timestamp < {HIGH}"),
            format!("DeviceEvents | where Timestamp between ({LOW} .. {HIGH}) | take 5"),
            format!("DeviceEvents | where Timestamp >= {LOW} and Timestamp < {HIGH} | take 5 "),
            format!(
                "DeviceEvents | where Timestamp >= {LOW} and Timestamp < {HIGH} | order by Timestamp | take 5"
            ),
            format!(
                "DeviceEvents | where ingestion_time() >= {LOW} and Timestamp < {HIGH} | take 5"
            ),
            format!(
                "DeviceEvents | where Timestamp >= {LOW} and Timestamp < datetime(2026-03-04) | take 5"
            ),
            format!(
                "DeviceEvents | where Timestamp >= {LOW} and Timestamp < {HIGH} | where hash(DeviceId, 4) == 4 | take 5"
            ),
            format!("union * | where Timestamp >= {LOW} and Timestamp < {HIGH} | take 5"),
        ] {
            assert_eq!(Question::parse(&query), None, "{query}");
        }
    }

    #[test]
    fn spans_are_days_or_hours() {
        assert_eq!(span(None), Some(30 * DAY));
        assert_eq!(span(Some("P1D")), Some(DAY));
        assert_eq!(span(Some("PT6H")), Some(DAY / 4));
        assert_eq!(span(Some("P99D")), Some(30 * DAY));
        assert_eq!(span(Some("yesterday")), None);
    }
}
