//! What is asked of a source: paths and queries, as text.

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    cursor::Slice,
    endpoint::{Endpoint, TimeFilter},
    window::Window,
};

/// The most records of a page. A larger number is silently made this one
/// (`help.eset.com/eset_connect`, v1 and v2 detections).
pub const PAGE_SIZE: u32 = 1000;

/// The token that stands for "from now on".
const LATEST: &str = "latest";

/// The path and query of one page of a slice, and the member that holds the records.
pub fn page_query(endpoint: &Endpoint, slice: &Slice, page: &str) -> (String, &'static str) {
    let feed = endpoint.feed.as_ref();
    let (path, records, mut query) = match (slice, feed) {
        (Slice::Token(token), Some(feed)) => {
            (feed.path, feed.records, vec![("deltaToken", token.clone())])
        }
        (Slice::Latest, Some(feed)) => (
            feed.path,
            feed.records,
            vec![("deltaToken", LATEST.to_owned())],
        ),
        (Slice::Window(window), _) => {
            let list = &endpoint.window;
            (list.path, list.records, window_query(list.filter, *window))
        }
        (Slice::Token(_) | Slice::Latest, None) => {
            (endpoint.window.path, endpoint.window.records, Vec::new())
        }
    };
    query.push(("pageSize", PAGE_SIZE.to_string()));
    if !page.is_empty() {
        query.push(("pageToken", page.to_owned()));
    }
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    (format!("{path}?{}", query.join("&")), records)
}

fn window_query(filter: TimeFilter, window: Window) -> Vec<(&'static str, String)> {
    let (from, to) = (instant(window.from), instant(window.to));
    match filter {
        TimeFilter::Parameters(first, last) => vec![(first, from), (last, to)],
        TimeFilter::Cel(member) => vec![(
            "filter",
            format!(r#"{member} >= timestamp("{from}") && {member} <= timestamp("{to}")"#),
        )],
    }
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// What stands in a query or a form as it is (RFC 3986, unreserved).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A value as it stands in a query or a form.
pub fn encode(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}
