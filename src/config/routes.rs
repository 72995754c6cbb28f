//! `ROUTES`: streams whose rows go to a table of their own.

use std::collections::BTreeSet;

use super::values::Parsed;

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
    /// The stream of the rule: `Custom-` and the table.
    pub dcr_stream: String,
}

/// `stream=[dcr-id/]Custom-X_CL,…`
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
        let own = OWN_TABLES.contains(&route.table.as_str()) && route.dcr.is_some();
        let other = routes
            .iter()
            .any(|other| other.table == route.table && other.dcr != route.dcr);
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
            "holds `{part}`; a route looks like `eset.detections=Custom-MyTable_CL` or `eset.detections=dcr-0123456789abcdef/Custom-MyTable_CL`"
        )
    };
    let (stream, target) = part.split_once('=').ok_or_else(wrong)?;
    let (dcr, dcr_stream) = match target.split_once('/') {
        Some((dcr, stream)) => (Some(dcr.trim()), stream.trim()),
        None => (None, target.trim()),
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
            "a=Custom-A B_CL",
        ] {
            assert!(routes(bad).is_err(), "{bad}");
        }
        assert!(routes("a=Custom-A_CL,b=Custom-A_CL").is_ok());
        assert!(routes("a=Custom-IntegrationTableIncidents_CL").is_ok());
    }
}
