//! The tables of advanced hunting, from the repository's schema file.

use std::{sync::LazyLock, time::Duration};

use crate::{
    core::{
        json::if_absent::IfAbsent,
        mapping::{
            filter::Filter,
            rule::{As, Path, Rule, To, or_take, path, take},
            schema::{Schema, schemas},
            wanted::{Field, Teller},
        },
        position::{
            paging::Paging,
            record_key::KeyRule,
            window::{Pace, Passes, REWRITE},
        },
        protocol::{
            choice::{Choice, Choices, Switch},
            endpoint::{Endpoint, LATE_DEVICES, ListQuery, TimeFilter},
        },
    },
    error::{Error, Result},
    source::defender::{HUNTING, WITHOUT_SENTINEL, plain},
};

/// The most rows of one answer. The service gives 100,000 and 50 MB; a row of a device is 1.5 KB. It
/// does not say that it has cut an answer: what is asked for has to be less than it gives.
pub const CAP: u32 = 30_000;

/// One table.
#[derive(Debug, Clone, Copy)]
pub struct HuntingTable {
    /// Its name.
    pub name: &'static str,
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

/// The table of this name.
pub fn table(name: &str) -> Option<&'static HuntingTable> {
    TABLES.iter().find(|table| table.name == name)
}

/// The setting that names tables.
const NAMED_BY: &str = "DEFENDER_HUNTING_TABLES";

/// Tables are not kept to those of devices.
const OF_ALL_PRODUCTS: Choice = Choice("DEFENDER_ENDPOINT_ONLY", "no");

/// The names of a table, that of 2019 included.
fn words_of(table: &'static str) -> Vec<Choice> {
    let old = OLD_NAMES.iter().filter(|(_, today)| *today == table);
    let words = [table].into_iter().chain(old.map(|(old, _)| *old));
    words.map(|word| Choice(NAMED_BY, word)).collect()
}

/// Refuses settings that name a table which there is not.
pub fn all_known(choices: &Choices) -> Result<()> {
    let is_known = |name: &&str| {
        let mut any = TABLES.iter().flat_map(|table| table.endpoint.switch.any);
        any.any(|Choice(_, word)| word.eq_ignore_ascii_case(name))
    };
    match choices.words(NAMED_BY).find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
            Err(Error::config(format!(
                "`{NAMED_BY}` names `{name}`, which there is not; there are {}",
                tables.join(", ")
            )))
        }
    }
}

/// The tables that are named, but hold no data of devices, to which the settings keep.
pub(crate) fn left_out(choices: &Choices) -> Vec<&'static str> {
    let of_others = TABLES.iter().filter(|table| {
        let switch = table.endpoint.switch;
        switch.is_named(choices) && !switch.is_on(choices)
    });
    of_others.map(|table| table.name).collect()
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

/// What columns tell that people filter by. An event is of the kind that its `ActionType` names.
fn tellers_of(columns: &[&str]) -> Vec<(Field, Teller)> {
    let told = [
        (Field::Severity, "Severity"),
        (Field::Category, "Category"),
        (Field::Category, "ActionType"),
        (Field::Product, "ServiceSource"),
        (Field::DeviceGroup, "MachineGroup"),
    ];
    let there = told.iter().filter(|(_, column)| columns.contains(column));
    there
        .map(|(field, column)| (*field, Teller::Member(column)))
        .collect()
}

fn hunting_table(schema: &'static Schema) -> HuntingTable {
    let (name, columns) = (schema.name, schema.members);
    let stream = kept(format!("defender.hunting.{name}"));
    let (id, also) = schema.row_id.split_first().unzip();
    let rules = rules_of(name, columns);
    HuntingTable {
        name,
        share_by: if columns.contains(&"DeviceId") {
            "DeviceId"
        } else {
            "tostring(pack_all())"
        },
        endpoint: Endpoint {
            stream,
            switch: Switch {
                any: words_of(name).leak(),
                all: if schema.product == "endpoint" {
                    &[]
                } else {
                    &[OF_ALL_PRODUCTS]
                },
            },
            domain: HUNTING,
            list: ListQuery {
                path: "/v1.0/security/runHuntingQuery",
                records: "results",
                if_absent: IfAbsent::Error,
                filter: TimeFilter::Kql(name),
                parameters: &[],
                droppable: None,
                paging: Paging::Whole { cap: CAP },
            },
            fix: "grant the app the application role `ThreatHunting.Read.All` of Microsoft Graph, \
                  with admin consent, or empty `DEFENDER_HUNTING_TABLES`",
            off_fix: "get the licence or set the product up, or take the table out of \
                      `DEFENDER_HUNTING_TABLES`; it is asked for again after a day",
            roles: &["ThreatHunting.Read.All"],
            filters: if matches!(name, "AlertInfo" | "AlertEvidence") {
                &[(&[WITHOUT_SENTINEL], Filter::Own("ServiceSource"))]
            } else {
                &[]
            },
            tellers: tellers_of(columns).leak(),
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

/// The rules of a table with these columns, each column of ours with one usual member.
fn rules_of(table: &str, columns: &[&'static str]) -> Vec<Rule> {
    let own = OWN_RULES.iter().filter(|(name, _)| *name == table);
    let own = own.flat_map(|(_, rules)| *rules);
    let process = match table {
        "DeviceProcessEvents" => CREATED,
        "DeviceEvents" | "AlertEvidence" => PERHAPS_CREATED,
        _ => INITIATING,
    };
    let all = own.chain(process).chain(RULES).copied();
    let mut rules: Vec<Rule> = Vec::new();
    for rule in all.filter(|rule| columns.contains(&rule.member)) {
        // What the table says itself about a member and a column stands.
        let is_known =
            |known: &Rule| known.member == rule.member && goes_to(known) == goes_to(&rule);
        if !rules.iter().any(is_known) {
            rules.push(rule);
        }
    }
    if matches!(table, "DeviceProcessEvents" | "DeviceEvents") {
        let initiating = columns.iter().filter(|name| name.starts_with(INITIATOR));
        rules.extend(initiating.map(|name| take(name, "context", As::Member(name))));
    }
    // A column that only an alternate fills has no other usual one: rows need not name it.
    for at in 0..rules.len() {
        let column = goes_to(&rules[at]);
        let mut same = rules.iter().filter(|rule| goes_to(rule) == column);
        if same.all(|rule| rule.alternate) {
            rules[at].alternate = false;
        }
    }
    rules
}

/// The column of a rule.
fn goes_to(rule: &Rule) -> Option<&'static str> {
    match rule.to {
        To::Column(column, _) => Some(column),
        To::JsonObject { rest, .. } => rest,
    }
}

/// What begins the names of columns that tell of the process that did it.
const INITIATOR: &str = "InitiatingProcess";

/// What a table says in columns that mean something else in others, or that only it has.
const OWN_RULES: &[(&str, &[Rule])] = &[
    (
        "AlertInfo",
        &[take("DetectionSource", "typeName", As::Text)],
    ),
    (
        "AlertEvidence",
        &[
            take("DetectionSource", "typeName", As::Text),
            take("Categories", "category", As::Text),
        ],
    ),
    (
        "CloudAppEvents",
        &[
            take("ObjectName", "objectName", As::Text),
            take("ObjectType", "objectTypeName", As::Text),
            take("AccountDisplayName", "userNameBase", As::Text),
            or_take("AccountId", "userNameBase", As::Text),
            // The app is at this end.
            take("IPAddress", "networkCommunication", REMOTE_ADDRESS),
        ],
    ),
    (
        "DeviceRegistryEvents",
        &[take("RegistryKey", "objectName", path("RegistryValueName"))],
    ),
    (
        "EmailEvents",
        &[
            take("Subject", "displayName", As::Text),
            take("DeliveryAction", "typeName", As::Text),
            take("SenderFromAddress", "objectName", As::Text),
            or_take("SenderMailFromAddress", "objectName", As::Text),
            take("SenderIPv4", "networkCommunication", REMOTE_ADDRESS),
            or_take("SenderIPv6", "networkCommunication", REMOTE_ADDRESS),
        ],
    ),
    (
        "IdentityDirectoryEvents",
        &[
            take("TargetAccountUpn", "objectName", As::Text),
            or_take("TargetAccountDisplayName", "objectName", As::Text),
            or_take("TargetDeviceName", "objectName", As::Text),
        ],
    ),
    (
        "IdentityQueryEvents",
        &[
            take("QueryTarget", "objectName", As::Text),
            or_take("TargetAccountUpn", "objectName", As::Text),
            or_take("TargetAccountDisplayName", "objectName", As::Text),
            or_take("TargetDeviceName", "objectName", As::Text),
        ],
    ),
];

const REMOTE_ADDRESS: As = As::Member("remoteIpAddress");

/// A row of a process that was created: it is that one, and the initiating one is in `context`.
const CREATED: &[Rule] = &[
    take("FolderPath", "processPath", path("FileName")),
    or_take("FileName", "processPath", As::Text),
    take("ProcessCommandLine", "processCommandline", As::Text),
];

/// A row that may name another process than the one that did it, which then is in `context`.
const PERHAPS_CREATED: &[Rule] = &[
    take("FolderPath", "processPath", OF_A_PROCESS),
    or_take("InitiatingProcessFolderPath", "processPath", OF_NO_OTHER),
    take("ProcessCommandLine", "processCommandline", As::Text),
    or_take(
        "InitiatingProcessCommandLine",
        "processCommandline",
        As::Text,
    ),
];

/// The file is a process where a command line stands beside it.
const OF_A_PROCESS: As = As::Path(Path {
    file: "FileName",
    with: "ProcessCommandLine",
    without: "",
});

const OF_NO_OTHER: As = As::Path(Path {
    file: "InitiatingProcessFileName",
    with: "",
    without: "ProcessCommandLine",
});

/// A row of something else than a process: the process is the one that did it.
const INITIATING: &[Rule] = &[
    take(
        "InitiatingProcessFolderPath",
        "processPath",
        path("InitiatingProcessFileName"),
    ),
    or_take("InitiatingProcessFileName", "processPath", As::Text),
    take(
        "InitiatingProcessCommandLine",
        "processCommandline",
        As::Text,
    ),
];

/// Columns that mean what a column of ours means, in whichever tables they are. Of several for one
/// column the first that says something counts.
const RULES: &[Rule] = &[
    take("AlertId", "detectionUuid", As::Json),
    take("Timestamp", "occurTime", As::Text),
    take("Title", "displayName", As::Text),
    take("Severity", "severityLevel", As::Text),
    take("Category", "category", As::Text),
    or_take("ThreatTypes", "category", As::Text),
    take("ActionType", "typeName", As::Text),
    take("DeviceId", "deviceUuid", As::Text),
    take("DeviceName", "deviceDisplayName", As::Text),
    or_take("AccountUpn", "userNameBase", As::Text),
    take("AccountName", "userNameBase", As::Account("AccountDomain")),
    or_take("RecipientEmailAddress", "userNameBase", As::Text),
    or_take(
        "RequestAccountName",
        "userNameBase",
        As::Account("RequestAccountDomain"),
    ),
    or_take("InitiatingProcessAccountUpn", "userNameBase", As::Text),
    or_take(
        "InitiatingProcessAccountName",
        "userNameBase",
        As::Account("InitiatingProcessAccountDomain"),
    ),
    or_take("AccountDisplayName", "userNameBase", As::Text),
    take("FolderPath", "objectName", path("FileName")),
    or_take("FileName", "objectName", As::Text),
    or_take("RegistryKey", "objectName", path("RegistryValueName")),
    take("EntityType", "objectTypeName", As::Text),
    take("SHA1", "objectHashSha1", As::Text),
    take("FileSize", "objectSizeBytes", As::Integer),
    take("RemoteUrl", "objectUrl", As::Text),
    or_take("Url", "objectUrl", As::Text),
    or_take("FileOriginUrl", "objectUrl", As::Text),
    take("RemoteIP", "networkCommunication", REMOTE_ADDRESS),
    take("RemotePort", "networkCommunication", REMOTE_PORT),
    take("LocalIP", "networkCommunication", LOCAL_ADDRESS),
    take("LocalPort", "networkCommunication", LOCAL_PORT),
    take("Protocol", "networkCommunication", PROTOCOL),
    take("RequestSourceIP", "networkCommunication", REMOTE_ADDRESS),
    take("RequestSourcePort", "networkCommunication", REMOTE_PORT),
    take("RequestProtocol", "networkCommunication", PROTOCOL),
    take(
        "DestinationIPAddress",
        "networkCommunication",
        REMOTE_ADDRESS,
    ),
    take("DestinationPort", "networkCommunication", REMOTE_PORT),
    take("IPAddress", "networkCommunication", LOCAL_ADDRESS),
    take("Port", "networkCommunication", LOCAL_PORT),
];

const REMOTE_PORT: As = As::Member("remotePort");
const LOCAL_ADDRESS: As = As::Member("localIpAddress");
const LOCAL_PORT: As = As::Member("localPort");
const PROTOCOL: As = As::Member("protocolName");

/// Why a column of a table goes to no column of ours.
pub fn why_left(column: &str) -> &'static str {
    let is = |parts: &[&str]| parts.iter().any(|part| column.contains(part));
    if column.starts_with(INITIATOR) {
        return "more of the process that did it than its path, command line and user";
    }
    if is(&[
        "Sid",
        "ObjectId",
        "AccountId",
        "AccountDisplayName",
        "AccountType",
    ]) || matches!(column, "AccountDomain" | "AccountName" | "AccountUpn")
    {
        return "other names of an account: one column names a user";
    }
    if is(&["SHA256", "MD5", "SignerHash", "IssuerHash"]) {
        return "other hashes: one column holds a hash, of SHA-1";
    }
    if is(&[
        "ReportId",
        "MessageId",
        "LogonI",
        "UniqueId",
        "SessionId",
        "ClusterId",
    ]) {
        return "numbers of the source, to join rows by";
    }
    if is(&["Sender"]) {
        return "more of who sent it than one address";
    }
    if is(&[
        "IPType",
        "PublicIP",
        "IPAddresses",
        "IPTags",
        "IPCategory",
        "FileOriginIP",
        "RemoteSessionIP",
    ]) {
        return "addresses that are no side of a connection, and what is known of them";
    }
    "no column of ours has that meaning"
}

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
    fn each_column_has_one_usual_member_and_an_object_no_member_twice() {
        for table in tables() {
            let rules = table.endpoint.rules;
            for rule in rules {
                let same = |other: &&Rule| goes_to(other) == goes_to(rule) && !other.alternate;
                let usual: Vec<&Rule> = rules.iter().filter(same).collect();
                let parts = usual.iter().filter_map(|rule| match rule.to {
                    To::Column(_, As::Member(name)) => Some(name),
                    _ => None,
                });
                let parts: Vec<&str> = parts.collect();
                let distinct: std::collections::BTreeSet<&str> = parts.iter().copied().collect();
                assert_eq!(distinct.len(), parts.len(), "{} {rule:?}", table.name);
                let is_one = usual.len() == 1 || parts.len() == usual.len();
                assert!(is_one, "{} {rule:?}", table.name);
            }
        }
    }

    #[test]
    fn old_names_still_name_a_table() {
        let on = |name: &str| {
            let mut choices = Choices::default();
            choices.add(NAMED_BY, [name]);
            choices.add(OF_ALL_PRODUCTS.0, [OF_ALL_PRODUCTS.1]);
            all_known(&choices)?;
            let on = tables()
                .iter()
                .filter(|table| table.endpoint.switch.is_on(&choices));
            Ok::<_, Error>(on.map(|table| table.name).collect::<Vec<_>>())
        };
        for (old, today) in OLD_NAMES {
            assert_eq!(on(old).unwrap(), [*today]);
        }
        assert_eq!(on("deviceevents").unwrap(), ["DeviceEvents"]);
        let refused = on("Nothing").unwrap_err().to_string();
        assert!(
            refused.contains("`Nothing`, which there is not"),
            "{refused}"
        );
    }

    #[test]
    fn rows_of_a_device_are_known_by_device_report_and_time() {
        let events = &table("DeviceEvents").unwrap().endpoint;
        assert_eq!(events.identity.id, "DeviceId");
        assert!(events.identity.also.contains(&"ReportId"));
        assert_eq!(table("AlertEvidence").unwrap().endpoint.identity.id, "");
    }
}
