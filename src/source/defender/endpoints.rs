//! The streams as data. Shapes after Microsoft's reference: `docs/contracts/defender.md`, *Lists*.

use std::time::Duration;

use crate::core::{
    json::if_absent::IfAbsent,
    mapping::{
        assets::{Asset, Form, Key, Kind},
        columns,
        rule::{As, take},
        wanted::{Field, Teller},
    },
    position::{
        paging::Paging,
        record_key::KeyRule,
        window::{Pace, Passes, REWRITE},
    },
    protocol::{
        choice::{Choice, Choices, Switch},
        endpoint::{DedupKey, Endpoint, Enrich, LATE_UPDATES, ListQuery, Snapshot, TimeFilter},
    },
};

mod alerts;
mod incidents;
mod vulnerabilities;

pub use alerts::{ALERTS, MDE_ALERTS};
pub(super) use incidents::hides_own_incidents;
pub use incidents::{INCIDENTS, INCIDENTS_WITH_ALERTS, XDR_INCIDENTS};
pub use vulnerabilities::{CATALOGUE, SOFTWARE_VULNERABILITIES, VULNERABILITIES};

/// `providerName` of all rows.
pub(crate) const PROVIDER: &str = "Microsoft Defender";

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The stream of this name in `DEFENDER_STREAMS`.
const fn named(any: &'static [Choice]) -> Switch {
    Switch { any, all: &[] }
}

const ALERTS_NAMED: Choice = Choice("DEFENDER_STREAMS", "alerts");
const ALERTS_BY_GRAPH: Choice = Choice("DEFENDER_ALERTS_API", "graph");
const INCIDENTS_NAMED: Choice = Choice("DEFENDER_STREAMS", "incidents");
const BY_GRAPH: Choice = Choice("DEFENDER_INCIDENTS_API", "graph");
/// Incidents without their alerts, and so without what tells that Sentinel has raised them.
const BARE: Choice = Choice("DEFENDER_INCIDENT_ALERTS", "no");

/// Alerts that Sentinel has raised come from Sentinel itself.
pub(crate) const WITHOUT_SENTINEL: Choice = Choice("DEFENDER_SENTINEL_ALERTS", "no");

/// What alerts of Defender for Endpoint say in `serviceSource`: Graph's, and those in an incident of
/// the XDR API, which knows it by its old name.
pub const ENDPOINT_PRODUCT: &[&str] = &["microsoftDefenderForEndpoint", "MicrosoftDefenderATP"];

/// Records of devices are wanted, and nothing else.
const ENDPOINTS_ALONE: Choice = Choice("DEFENDER_ENDPOINT_ONLY", "yes");

const OLDEST_FIRST: &[(&str, &str)] = &[("$orderby", "lastUpdateDateTime asc")];

/// A list that is followed by the time of the last update, so that a closing lands.
const UPDATES: Pace = Pace {
    every: MINUTE,
    // An update that is being written may become visible behind a later one.
    delay: Duration::from_secs(30),
    lookback: Duration::from_mins(15),
    sweep: LATE_UPDATES,
    step: DAY,
    history: DAY,
    passes: Passes::None,
    rewrite: REWRITE,
};

/// A list that is read as a whole once a day.
const DAILY: Pace = Pace {
    every: Duration::from_mins(5),
    delay: Duration::ZERO,
    lookback: Duration::ZERO,
    sweep: Duration::ZERO,
    step: DAY,
    history: DAY,
    passes: Passes::Only(DAY),
    rewrite: REWRITE,
};

const LIST: ListQuery = ListQuery {
    path: "",
    records: "value",
    if_absent: IfAbsent::Error,
    filter: TimeFilter::None,
    parameters: &[],
    droppable: None,
    paging: Paging::Skip { top: 10_000 },
};

/// What most endpoints have in common.
pub(crate) const fn plain() -> Endpoint {
    Endpoint {
        stream: "",
        provider: PROVIDER,
        switch: Switch::NONE,
        domain: super::MDE,
        feed: None,
        list: LIST,
        full_list: None,
        narrow: None,
        enrich: Enrich::Nothing,
        filters: &[],
        tellers: &[],
        opened: None,
        snapshot: None,
        roles: &[],
        extra_roles: &[],
        fix: "",
        off_fix: "get the licence or set the product up, or take the stream out of `DEFENDER_STREAMS`; it \
              is asked for again after a day",
        retry_off_after: DAY,
        table: &columns::DETECTIONS,
        schema: None,
        identity: KeyRule::PLAIN,
        dedup_key: DedupKey::IdAndVersion,
        fingerprints: "",
        rules: &[],
        details: &[],
        constants: &[],
        from_list: None,
        collect: &[],
        asset: None,
        pace: UPDATES,
    }
}

const MACHINE_LIST: ListQuery = ListQuery {
    path: "/api/machines",
    filter: TimeFilter::OData("lastSeen"),
    ..LIST
};

/// Devices, as they are now.
pub static MACHINES: Endpoint = Endpoint {
    stream: "defender.machines",
    switch: named(&[Choice("DEFENDER_STREAMS", "machines")]),
    tellers: &[
        (Field::Status, Teller::Member("healthStatus")),
        (Field::DeviceGroup, Teller::Member("rbacGroupName")),
    ],
    list: MACHINE_LIST,
    full_list: Some(MACHINE_LIST),
    snapshot: Some(Snapshot {
        // Set by every report of a device.
        ignored: &["lastSeen"],
    }),
    roles: &["Machine.Read.All", "Machine.ReadWrite.All"],
    // `assets find` asks who was logged on to a device.
    extra_roles: &[super::users::ROLES],
    fix: "grant the app the application role `Machine.Read.All` of `WindowsDefenderATP`, with admin \
          consent, or take `machines` out of `DEFENDER_STREAMS`",
    identity: KeyRule {
        id: "id",
        time: "lastSeen",
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.machines",
    schema: Some("machines"),
    rules: &[
        take("id", "deviceUuid", As::Text),
        take("computerDnsName", "deviceDisplayName", As::Text),
    ],
    asset: Some(Asset {
        kind: Kind::Machine,
        keys: &[
            Key::Text("id"),
            Key::Text("aadDeviceId"),
            Key::Host("computerDnsName"),
            Key::Address("lastIpAddress"),
            Key::Addresses("ipAddresses", "ipAddress"),
        ],
        members: &[
            ("computerDnsName", "name", Form::Text),
            ("aadDeviceId", "aadDeviceId", Form::Text),
            ("ipAddresses", "addresses", Form::Addresses),
            // Whole offices share it: a search for it would find them all.
            ("lastExternalIpAddress", "externalAddress", Form::Text),
            ("osPlatform", "osPlatform", Form::Text),
            ("version", "osVersion", Form::Text),
            ("osBuild", "osBuild", Form::Text),
            ("firstSeen", "firstSeen", Form::Text),
            ("lastSeen", "lastSeen", Form::Text),
            ("healthStatus", "health", Form::Text),
            ("onboardingStatus", "onboarding", Form::Text),
            ("deviceValue", "value", Form::Text),
            ("rbacGroupName", "group", Form::Text),
            ("machineTags", "tags", Form::Texts),
            ("riskScore", "risk", Form::Text),
            ("exposureLevel", "exposure", Form::Text),
            ("mergedIntoMachineId", "mergedInto", Form::Text),
        ],
        closed: None,
    }),
    pace: Pace {
        every: HOUR,
        delay: Duration::ZERO,
        lookback: HOUR,
        // The pass reads everything again.
        sweep: Duration::ZERO,
        passes: Passes::Beside(DAY),
        ..UPDATES
    },
    ..plain()
};

/// All endpoints, those included that stand for the same stream.
pub static ENDPOINTS: [&Endpoint; 9] = [
    &MACHINES,
    &VULNERABILITIES,
    &CATALOGUE,
    &SOFTWARE_VULNERABILITIES,
    &ALERTS,
    &MDE_ALERTS,
    &INCIDENTS,
    &INCIDENTS_WITH_ALERTS,
    &XDR_INCIDENTS,
];

/// True when these choices bring alerts of Defender for Endpoint, and of no other product.
pub fn follows_endpoints_alone(choices: &Choices) -> bool {
    choices.has(ENDPOINTS_ALONE) || choices.has(alerts::BY_MDE)
}
