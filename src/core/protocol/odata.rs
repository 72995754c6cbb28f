//! Microsoft's security APIs: what is asked of a list, and what a refusal in words means.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    endpoint::{ListQuery, TimeFilter},
    request::encode,
};
use crate::core::position::{
    cursor::Slice,
    paging::{Page, Paging},
    window::Window,
};

mod refusal;

pub use refusal::{ErrorDialect, Refusal, refusal};

/// The path and query of one page of a list. `clauses` narrow it down beside the time.
pub fn page_query(list: &ListQuery, slice: &Slice, page: &Page, clauses: &[String]) -> String {
    let part = slice.window().map(|window| page.part(window));
    let mut filter: Vec<String> = Vec::new();
    let mut query: Vec<(&str, String)> = Vec::new();
    if let Some(part) = &part {
        match list.filter {
            TimeFilter::OData(member) => {
                let Window { from, to } = part.window;
                filter.push(format!("{member} ge {}", literal(from)));
                filter.push(format!("{member} lt {}", literal(to)));
            }
            TimeFilter::Since(name, hours) => {
                query.push((name, literal(bucket(part.window.from, hours))));
            }
            _ => {}
        }
    }
    filter.extend_from_slice(clauses);
    if !filter.is_empty() {
        query.insert(0, ("$filter", filter.join(" and ")));
    }
    match (list.paging, &part) {
        (Paging::Boundary { top, .. }, Some(part)) => {
            query.push(("$top", part.top.unwrap_or(top).to_string()));
            if part.skip > 0 {
                query.push(("$skip", part.skip.to_string()));
            }
        }
        (Paging::Skip { top }, _) => {
            query.push(("$top", top.to_string()));
            query.push(("$skip", page.skipped().to_string()));
        }
        _ => {}
    }
    let bare = part.is_some_and(|part| part.bare);
    for (name, value) in list.parameters {
        if !(bare && list.droppable == Some(*name)) {
            query.push((name, (*value).to_owned()));
        }
    }
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    if query.is_empty() {
        list.path.to_owned()
    } else {
        format!("{}?{}", list.path, query.join("&"))
    }
}

/// A time as a filter takes it. The services count in steps of 100 ns.
pub fn literal(time: DateTime<Utc>) -> String {
    let mut text = time.to_rfc3339_opts(SecondsFormat::Nanos, true);
    // Nine digits are cut to seven.
    text.truncate(text.len() - 3);
    text.push('Z');
    text
}

/// The beginning of the bucket of so many hours that a time lies in.
fn bucket(time: DateTime<Utc>, hours: u32) -> DateTime<Utc> {
    let seconds = i64::from(hours) * 3600;
    let start = time.timestamp().div_euclid(seconds) * seconds;
    DateTime::from_timestamp(start, 0).unwrap_or(time)
}

#[cfg(test)]
#[path = "odata_tests.rs"]
mod tests;
