//! `ROUTES`: streams whose rows go to a table of their own.

use std::collections::BTreeSet;

use super::values::{self, Parsed};

/// Tables that `DCR_STREAM` and `DCR_STREAM_INCIDENTS` are for.
const OWN_TABLES: [&str; 2] = ["IntegrationTable_CL", "IntegrationTableIncidents_CL"];

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whose rows: `eset.detections`.
    pub stream: String,
    /// The table that they are for; batches and outbox go by it.
    pub table: String,
    /// The rule, when it is not that of `DCR_IMMUTABLE_ID`.
    pub dcr: Option<String>,
    /// The rule's own endpoint, when it is not `LOGS_INGESTION_ENDPOINT`.
    pub endpoint: Option<String>,
    /// The stream of the rule: `Custom-` and the table.
    pub dcr_stream: String,
}

impl Route {
    /// True when the rows go to one of the tables that all sources share.
    pub fn is_shared(&self) -> bool {
        OWN_TABLES.contains(&self.table.as_str())
    }

    fn place(&self) -> (Option<&str>, Option<&str>) {
        (self.dcr.as_deref(), self.endpoint.as_deref())
    }
}

/// `stream=[[https://endpoint/]dcr-id/]Custom-X_CL,…`
pub(super) fn routes(value: &str) -> Parsed<Vec<Route>> {
    let parts = value.split(',').map(str::trim);
    let routes: Vec<Route> = parts
        .filter(|part| !part.is_empty())
        .map(route)
        .collect::<Parsed<_>>()?;
    let streams: BTreeSet<&str> = routes.iter().map(|route| route.stream.as_str()).collect();
    if streams.len() < routes.len() {
        return Err("names a stream twice".to_owned());
    }
    // The outbox keeps the table's name alone, so that alone must say where its rows go.
    for route in &routes {
        let own = route.is_shared() && route.dcr.is_some();
        let other = routes
            .iter()
            .any(|other| other.table == route.table && other.place() != route.place());
        if own || other {
            return Err(format!(
                "sends `{}` to two data collection rules: give the tables different names",
                route.table
            ));
        }
    }
    Ok(routes)
}

fn route(part: &str) -> Parsed<Route> {
    let wrong = || {
        format!(
            "holds `{part}`; a route looks like `eset.detections=Custom-MyTable_CL` or `eset.detections=dcr-0123456789abcdef/Custom-MyTable_CL`, with the rule's endpoint and a slash before the rule if it has one of its own"
        )
    };
    let (stream, target) = part.split_once('=').ok_or_else(wrong)?;
    let (place, dcr_stream) = match target.rsplit_once('/') {
        Some((place, stream)) => (Some(place.trim()), stream.trim()),
        None => (None, target.trim()),
    };
    let (endpoint, dcr) = match place.and_then(|place| place.rsplit_once('/')) {
        Some((endpoint, dcr)) => (Some(values::url(endpoint)?), Some(dcr)),
        None => (None, place),
    };
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    let stream = stream.trim();
    let table = dcr_stream.strip_prefix("Custom-").ok_or_else(wrong)?;
    let good = plain(stream, ".-_")
        && plain(table, "_")
        && table.ends_with("_CL")
        && dcr.is_none_or(|dcr| dcr.starts_with("dcr-") && plain(dcr, "-"));
    if !good {
        return Err(wrong());
    }
    Ok(Route {
        stream: stream.to_owned(),
        table: table.to_owned(),
        dcr: dcr.map(str::to_owned),
        endpoint,
        dcr_stream: dcr_stream.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_a_stream_and_a_table_and_perhaps_a_rule() {
        let routes = routes("eset.detections=Custom-A_CL, eset.incidents=dcr-1/Custom-B_CL,");
        let [first, second] = &routes.unwrap()[..] else {
            panic!("not two")
        };
        assert_eq!(
            (first.stream.as_str(), first.table.as_str()),
            ("eset.detections", "A_CL")
        );
        assert_eq!(
            (first.dcr.as_deref(), first.dcr_stream.as_str()),
            (None, "Custom-A_CL")
        );
        assert_eq!(second.dcr.as_deref(), Some("dcr-1"));
        assert_eq!(second.dcr_stream, "Custom-B_CL");
        assert_eq!(second.endpoint, None);
    }

    #[test]
    fn a_rule_may_have_an_endpoint_of_its_own() {
        let host = "https://a-1b2c.westeurope-1.ingest.monitor.azure.com";
        let found = routes(&format!("eset.incidents={host}/dcr-1/Custom-B_CL")).unwrap();
        assert_eq!(found[0].endpoint.as_deref(), Some(host));
        assert_eq!(found[0].dcr.as_deref(), Some("dcr-1"));
        let two = format!("a={host}/dcr-1/Custom-B_CL,b=dcr-1/Custom-B_CL");
        assert!(
            routes(&two)
                .unwrap_err()
                .contains("two data collection rules")
        );
    }

    #[test]
    fn a_table_has_one_place() {
        for bad in [
            "a=Custom-A_CL,a=Custom-B_CL",
            "a=Custom-A_CL,b=dcr-1/Custom-A_CL",
            "a=dcr-1/Custom-IntegrationTable_CL",
            "a",
            "a=A_CL",
            "a=Custom-A",
            "a=Custom-_CL/x",
            "a=rule/Custom-A_CL",
            "=Custom-A_CL",
            "a=https://x.example/Custom-A_CL",
            "a=x.example/dcr-1/Custom-A_CL",
            "a=Custom-A B_CL",
        ] {
            assert!(routes(bad).is_err(), "{bad}");
        }
        assert!(routes("a=Custom-A_CL,b=Custom-A_CL").is_ok());
        assert!(routes("a=Custom-IntegrationTableIncidents_CL").is_ok());
    }
}
