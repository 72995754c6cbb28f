//! The tables of advanced hunting, from the repository's schema file.

use std::{sync::LazyLock, time::Duration};

use crate::{
    core::{
        json::record::KeyRule,
        mapping::{
            rule::{As, Rule, or_take, take},
            schema::{Schema, schemas},
        },
        position::{
            paging::Paging,
            window::{Pace, Passes, REWRITE},
        },
        protocol::endpoint::{Endpoint, LATE_DEVICES, ListQuery, TimeFilter},
    },
    source::defender::{HUNTING, plain},
};

/// The most rows of one answer. The service gives 100,000 and 50 MB; a row of a device is 1.5 KB. It
/// does not say that it has cut an answer: what is asked for has to be less than it gives.
pub const CAP: u32 = 30_000;

/// One table.
#[derive(Debug, Clone, Copy)]
pub struct HuntingTable {
    /// Its name.
    pub name: &'static str,
    /// It holds what devices report, and nothing else.
    pub of_devices: bool,
    /// How rows are split evenly: a KQL expression.
    pub share_by: &'static str,
    /// Its stream.
    pub endpoint: Endpoint,
}

static TABLES: LazyLock<Vec<HuntingTable>> = LazyLock::new(|| {
    let tables = schemas().iter().filter(|schema| !schema.product.is_empty());
    tables.map(hunting_table).collect()
});

/// Every table, by name.
pub fn tables() -> &'static [HuntingTable] {
    &TABLES
}

/// The table of this name, or of the name that it had in 2019.
pub fn table(name: &str) -> Option<&'static HuntingTable> {
    let today = OLD_NAMES
        .iter()
        .find(|(old, _)| old.eq_ignore_ascii_case(name))
        .map_or(name, |(_, today)| today);
    TABLES
        .iter()
        .find(|table| table.name.eq_ignore_ascii_case(today))
}

/// What the tables were called in 2019. `AlertEvents` has become two tables; the one with the alerts
/// themselves takes its place.
const OLD_NAMES: &[(&str, &str)] = &[
    ("AlertEvents", "AlertInfo"),
    ("MachineInfo", "DeviceInfo"),
    ("MachineNetworkInfo", "DeviceNetworkInfo"),
    ("ProcessCreationEvents", "DeviceProcessEvents"),
    ("NetworkCommunicationEvents", "DeviceNetworkEvents"),
    ("FileCreationEvents", "DeviceFileEvents"),
    ("RegistryEvents", "DeviceRegistryEvents"),
    ("LogonEvents", "DeviceLogonEvents"),
    ("ImageLoadEvents", "DeviceImageLoadEvents"),
    ("MiscEvents", "DeviceEvents"),
];

/// Text that lives as long as the program, as everything about a stream does. It is made once.
fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn hunting_table(schema: &'static Schema) -> HuntingTable {
    let (name, columns) = (schema.name, schema.members);
    let stream = kept(format!("defender.hunting.{name}"));
    let (id, also) = schema.row_id.split_first().unzip();
    let rules: Vec<Rule> = RULES
        .iter()
        .filter(|rule| columns.contains(&rule.member))
        .copied()
        .collect();
    HuntingTable {
        name,
        of_devices: schema.product == "endpoint",
        share_by: if columns.contains(&"DeviceId") {
            "DeviceId"
        } else {
            "tostring(pack_all())"
        },
        endpoint: Endpoint {
            stream,
            domain: HUNTING,
            window: ListQuery {
                path: "/v1.0/security/runHuntingQuery",
                records: "results",
                filter: TimeFilter::Kql(name),
                parameters: &[],
                paging: Paging::Whole { cap: CAP },
            },
            fix: "grant the app the application role `ThreatHunting.Read.All` of Microsoft Graph, \
                  with admin consent, or empty `DEFENDER_HUNTING_TABLES`",
            off_fix: "get the licence or set the product up, or take the table out of \
                      `DEFENDER_HUNTING_TABLES`; it is asked for again after a day",
            roles: &["ThreatHunting.Read.All"],
            identity: KeyRule {
                // Without columns of its own a row is known by all that it says.
                id: id.copied().unwrap_or_default(),
                also: also.unwrap_or_default(),
                time: "Timestamp",
                ..KeyRule::PLAIN
            },
            fingerprints: stream,
            schema: Some(name),
            rules: rules.leak(),
            pace: PACE,
            ..plain()
        },
    }
}

const PACE: Pace = Pace {
    every: Duration::from_mins(5),
    delay: Duration::from_mins(5),
    // By the time of the event; by the time of ingestion nothing is late.
    lookback: LATE_DEVICES,
    sweep: Duration::ZERO,
    step: Duration::from_hours(1),
    history: Duration::from_hours(24),
    passes: Passes::None,
    rewrite: REWRITE,
};

/// Columns that mean what a column of ours means, in whichever tables they are.
const RULES: &[Rule] = &[
    take("AlertId", "detectionUuid", As::Json),
    take("Timestamp", "occurTime", As::Text),
    take("Title", "displayName", As::Text),
    take("Severity", "severityLevel", As::Text),
    take("Category", "category", As::Text),
    take("ActionType", "typeName", As::Text),
    take("DeviceId", "deviceUuid", As::Text),
    take("DeviceName", "deviceDisplayName", As::Text),
    take("AccountName", "userNameBase", As::Text),
    or_take("AccountUpn", "userNameBase", As::Text),
    take("FileName", "objectName", As::Text),
    take("EntityType", "objectTypeName", As::Text),
    take("SHA1", "objectHashSha1", As::Text),
    take("FileSize", "objectSizeBytes", As::Integer),
    take("RemoteUrl", "objectUrl", As::Text),
    or_take("Url", "objectUrl", As::Text),
    take("ProcessCommandLine", "processCommandline", As::Text),
    or_take(
        "InitiatingProcessCommandLine",
        "processCommandline",
        As::Text,
    ),
    take("InitiatingProcessFolderPath", "processPath", As::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_the_guide_is_there_and_alert_info() {
        let names: Vec<&str> = tables().iter().map(|table| table.name).collect();
        assert_eq!(names.len(), 21, "{names:?}");
        for table in tables() {
            let columns = table.endpoint.rules;
            assert!(
                columns.iter().any(|rule| rule.member == "Timestamp"),
                "{}",
                table.name
            );
        }
        assert!(names.contains(&"UrlClickEvents"));
    }

    #[test]
    fn old_names_still_name_a_table() {
        for (old, today) in OLD_NAMES {
            assert_eq!(table(old).unwrap().name, *today);
        }
        assert_eq!(table("deviceevents").unwrap().name, "DeviceEvents");
        assert!(table("Nothing").is_none());
    }

    #[test]
    fn rows_of_a_device_are_known_by_device_report_and_time() {
        let events = &table("DeviceEvents").unwrap().endpoint;
        assert_eq!(events.identity.id, "DeviceId");
        assert!(events.identity.also.contains(&"ReportId"));
        assert_eq!(table("AlertEvidence").unwrap().endpoint.identity.id, "");
    }
}
