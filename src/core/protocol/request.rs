//! What is asked of a source: paths and queries, as text.

use chrono::{DateTime, SecondsFormat, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::endpoint::{Endpoint, TimeFilter};
use crate::core::position::{cursor::Slice, paging::Page, window::Window};

/// The most records of a page. A larger number is silently made this one
/// (`help.eset.com/eset_connect`, v1 and v2 detections).
pub const PAGE_SIZE: u32 = 1000;

/// The token that stands for "from now on".
const LATEST: &str = "latest";

/// The path and query of one page of a slice, and the member that holds the records.
pub fn page_query(endpoint: &Endpoint, slice: &Slice, page: &Page) -> (String, &'static str) {
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
            let list = &endpoint.list;
            (list.path, list.records, window_query(list.filter, *window))
        }
        (Slice::Token(_) | Slice::Latest | Slice::Ingested(_) | Slice::Pass, _) => {
            (endpoint.list.path, endpoint.list.records, Vec::new())
        }
    };
    query.push(("pageSize", PAGE_SIZE.to_string()));
    if let Page::Token(token) = page {
        query.push(("pageToken", token.clone()));
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
        // Asked by `core::odata` and by hunting.
        TimeFilter::OData(_) | TimeFilter::Since(..) | TimeFilter::Kql(_) | TimeFilter::None => {
            Vec::new()
        }
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

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;
    use crate::source::eset::{CLOUD_OFFICE, DETECTIONS, INCIDENTS, STREAMS};

    fn window(to: &str) -> Slice {
        Slice::Window(Window {
            from: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            to: to.parse().unwrap(),
        })
    }

    /// The first and a later page of every slice that the stream is asked for.
    fn pages(endpoint: &Endpoint) -> String {
        let mut slices = vec![window("2026-01-03T00:00:00Z")];
        if endpoint.feed.is_some() {
            slices.push(Slice::Latest);
            slices.push(Slice::Token("d/1+=".to_owned()));
        }
        let pages = slices.iter().flat_map(|slice| {
            [Page::First, Page::Token("p 1&x=é".to_owned())].map(|page| {
                let (query, records) = page_query(endpoint, slice, &page);
                format!("{query} → {records}\n")
            })
        });
        pages.collect()
    }

    #[test]
    fn detections_are_asked_for_by_token_or_by_window() {
        insta::assert_snapshot!(pages(&DETECTIONS), @"
        /v1/detections?startTime=2026-01-02T03%3A04%3A05.000000006Z&endTime=2026-01-03T00%3A00%3A00Z&pageSize=1000 → detections
        /v1/detections?startTime=2026-01-02T03%3A04%3A05.000000006Z&endTime=2026-01-03T00%3A00%3A00Z&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → detections
        /v1/detections:listDelta?deltaToken=latest&pageSize=1000 → createdDetections
        /v1/detections:listDelta?deltaToken=latest&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → createdDetections
        /v1/detections:listDelta?deltaToken=d%2F1%2B%3D&pageSize=1000 → createdDetections
        /v1/detections:listDelta?deltaToken=d%2F1%2B%3D&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → createdDetections
        ");
    }

    #[test]
    fn cloud_office_detections_are_asked_for_by_token_or_by_window() {
        insta::assert_snapshot!(pages(&CLOUD_OFFICE), @"
        /v2/detections?startTime=2026-01-02T03%3A04%3A05.000000006Z&endTime=2026-01-03T00%3A00%3A00Z&pageSize=1000 → detections
        /v2/detections?startTime=2026-01-02T03%3A04%3A05.000000006Z&endTime=2026-01-03T00%3A00%3A00Z&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → detections
        /v2/detections:listDelta?deltaToken=latest&pageSize=1000 → createdDetections
        /v2/detections:listDelta?deltaToken=latest&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → createdDetections
        /v2/detections:listDelta?deltaToken=d%2F1%2B%3D&pageSize=1000 → createdDetections
        /v2/detections:listDelta?deltaToken=d%2F1%2B%3D&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → createdDetections
        ");
    }

    #[test]
    fn incidents_are_asked_for_by_the_time_of_their_update() {
        insta::assert_snapshot!(pages(&INCIDENTS), @"
        /v2/incidents?filter=incident.update_time%20%3E%3D%20timestamp%28%222026-01-02T03%3A04%3A05.000000006Z%22%29%20%26%26%20incident.update_time%20%3C%3D%20timestamp%28%222026-01-03T00%3A00%3A00Z%22%29&pageSize=1000 → incidents
        /v2/incidents?filter=incident.update_time%20%3E%3D%20timestamp%28%222026-01-02T03%3A04%3A05.000000006Z%22%29%20%26%26%20incident.update_time%20%3C%3D%20timestamp%28%222026-01-03T00%3A00%3A00Z%22%29&pageSize=1000&pageToken=p%201%26x%3D%C3%A9 → incidents
        ");
        let (query, _) = page_query(&INCIDENTS, &window("2026-01-03T00:00:00Z"), &Page::First);
        let filter = query.split(['=', '&']).nth(1).unwrap();
        let filter = percent_decode_str(filter).decode_utf8().unwrap();
        insta::assert_snapshot!(filter, @r#"incident.update_time >= timestamp("2026-01-02T03:04:05.000000006Z") && incident.update_time <= timestamp("2026-01-03T00:00:00Z")"#);
    }

    #[test]
    fn a_filter_is_no_longer_than_the_service_takes() {
        let longest = window("2026-01-03T00:00:00.123456789Z");
        for endpoint in STREAMS {
            let Slice::Window(window) = longest else {
                panic!("a window");
            };
            for (_, value) in window_query(endpoint.list.filter, window) {
                let most = match endpoint.list.filter {
                    TimeFilter::Parameters(..) => 100,
                    _ => 200,
                };
                assert!(value.len() <= most, "{}: {value}", endpoint.stream);
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), text);
        }

        #[test]
        fn tokens_come_back_from_a_query_as_they_were(token in any::<String>(), page in ".{1,40}") {
            let (query, _) = page_query(&DETECTIONS, &Slice::Token(token.clone()), &Page::Token(page.clone()));
            let (_, query) = query.split_once('?').unwrap();
            let pairs: Vec<(&str, String)> = query
                .split('&')
                .map(|pair| pair.split_once('=').unwrap())
                .map(|(name, value)| (name, percent_decode_str(value).decode_utf8().unwrap().into_owned()))
                .collect();
            let expected = [("deltaToken", token), ("pageSize", "1000".to_owned()), ("pageToken", page)];
            prop_assert_eq!(pairs, expected);
        }
    }
}
