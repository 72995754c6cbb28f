//! Alerts, from two APIs.

use super::{
    super::{GRAPH, MDE, evidence},
    ALERTS_BY_GRAPH, ALERTS_NAMED, BARE, BY_GRAPH, ENDPOINT_PRODUCT, ENDPOINTS_ALONE,
    INCIDENTS_NAMED, LIST, OLDEST_FIRST, WITHOUT_SENTINEL, plain,
};
use crate::core::{
    mapping::{
        assets::{Asset, Form, Key, Kind},
        filter::Filter,
        rule::{As, or_take, take, within},
        wanted::{Field, Teller},
    },
    position::{paging::Paging, record_key::KeyRule},
    protocol::{
        choice::{Choice, Switch},
        endpoint::{Endpoint, ListQuery, TimeFilter},
    },
};

/// A page of Graph's lists. It gives 1,000 at most, and skips no more than 500 inside an instant.
const GRAPH_ALERTS: u32 = 500;

const NAMED: &[Choice] = &[ALERTS_NAMED];

/// Alerts are read by the API of Defender for Endpoint.
pub(super) const BY_MDE: Choice = Choice("DEFENDER_ALERTS_API", "mde");

/// Alerts of all Defender products.
pub static ALERTS: Endpoint = Endpoint {
    stream: "defender.alerts",
    switch: Switch {
        any: NAMED,
        all: &[ALERTS_BY_GRAPH],
    },
    domain: GRAPH,
    filters: &[
        (&[WITHOUT_SENTINEL], Filter::Own("serviceSource")),
        (
            &[ENDPOINTS_ALONE],
            Filter::SaysNot("serviceSource", ENDPOINT_PRODUCT),
        ),
        (
            &[WITHOUT_SENTINEL, INCIDENTS_NAMED, BY_GRAPH, BARE],
            Filter::TellsIncident("incidentId", "serviceSource"),
        ),
    ],
    tellers: &[
        (Field::Severity, Teller::Member("severity")),
        (Field::Category, Teller::Member("category")),
        (Field::Product, Teller::Member("serviceSource")),
        (Field::Status, Teller::Member("status")),
        (
            Field::DeviceGroup,
            Teller::Each("evidence", "rbacGroupName"),
        ),
    ],
    opened: Some("createdDateTime"),
    list: ListQuery {
        path: "/v1.0/security/alerts_v2",
        filter: TimeFilter::OData("lastUpdateDateTime"),
        parameters: OLDEST_FIRST,
        paging: Paging::Boundary {
            top: GRAPH_ALERTS,
            ordered: true,
        },
        ..LIST
    },
    roles: &[
        "SecurityAlert.Read.All",
        "SecurityAlert.ReadWrite.All",
        "SecurityIncident.Read.All",
        "SecurityIncident.ReadWrite.All",
    ],
    fix: "grant the app the application role `SecurityAlert.Read.All` of Microsoft Graph, with admin \
          consent, or set `DEFENDER_ALERTS_API=mde` for an app that holds `Alert.Read.All`",
    identity: KeyRule {
        id: "id",
        version: Some("lastUpdateDateTime"),
        time: "lastUpdateDateTime",
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.alerts",
    schema: Some("alerts"),
    rules: &[
        take("id", "detectionUuid", As::Json),
        take("title", "displayName", As::Text),
        take("category", "category", As::Text),
        take("severity", "severityLevel", As::Text),
        take("detectionSource", "typeName", As::Text),
        take("detectorId", "edrRuleUuid", As::Text),
        take("firstActivityDateTime", "occurTime", As::Text),
        or_take("createdDateTime", "occurTime", As::Text),
        take("status", "resolved", As::Is("resolved")),
        take("evidence", "context", As::Inside("evidence")),
    ],
    from_list: Some(evidence::GRAPH),
    asset: Some(Asset {
        kind: Kind::Alert,
        keys: &[Key::Each("evidence", "mdeDeviceId")],
        members: &[
            ("title", "title", Form::Text),
            ("severity", "severity", Form::Text),
            ("status", "status", Form::Text),
            ("category", "category", Form::Text),
            ("serviceSource", "product", Form::Text),
            ("createdDateTime", "created", Form::Text),
            ("lastUpdateDateTime", "updated", Form::Text),
            ("incidentId", "incident", Form::Text),
            ("alertWebUrl", "url", Form::Text),
        ],
        closed: Some(("status", "resolved")),
    }),
    ..plain()
};

/// Alerts of Defender for Endpoint, by its own API.
pub static MDE_ALERTS: Endpoint = Endpoint {
    stream: "defender.alerts",
    switch: Switch {
        any: NAMED,
        all: &[BY_MDE],
    },
    fingerprints: "defender.alerts.mde",
    schema: Some("mde-alerts"),
    domain: MDE,
    tellers: &[
        (Field::Severity, Teller::Member("severity")),
        (Field::Category, Teller::Member("category")),
        (Field::Product, Teller::Member("detectionSource")),
        (Field::Status, Teller::Member("status")),
        (Field::DeviceGroup, Teller::Member("rbacGroupName")),
    ],
    opened: Some("alertCreationTime"),
    list: ListQuery {
        path: "/api/alerts",
        filter: TimeFilter::OData("lastUpdateTime"),
        parameters: &[("$orderby", "lastUpdateTime asc"), ("$expand", "evidence")],
        paging: Paging::Boundary {
            top: 1_000,
            ordered: true,
        },
        ..LIST
    },
    roles: &["Alert.Read.All", "Alert.ReadWrite.All"],
    fix: "grant the app the application role `Alert.Read.All` of `WindowsDefenderATP`, with admin \
          consent, or set `DEFENDER_ALERTS_API=graph` for an app that holds `SecurityAlert.Read.All`",
    identity: KeyRule {
        id: "id",
        version: Some("lastUpdateTime"),
        time: "lastUpdateTime",
        ..KeyRule::PLAIN
    },
    rules: &[
        take("id", "detectionUuid", As::Json),
        take("title", "displayName", As::Text),
        take("category", "category", As::Text),
        take("severity", "severityLevel", As::Text),
        take("detectionSource", "typeName", As::Text),
        take("detectorId", "edrRuleUuid", As::Text),
        take("firstEventTime", "occurTime", As::Text),
        or_take("alertCreationTime", "occurTime", As::Text),
        take("machineId", "deviceUuid", As::Text),
        take("computerDnsName", "deviceDisplayName", As::Text),
        within(
            "relatedUser",
            None,
            &[take("userName", "userNameBase", As::Account("domainName"))],
        ),
        take("status", "resolved", As::Is("Resolved")),
        take("evidence", "context", As::Inside("evidence")),
    ],
    from_list: Some(evidence::MDE),
    asset: Some(Asset {
        kind: Kind::Alert,
        keys: &[Key::Text("machineId")],
        members: &[
            ("title", "title", Form::Text),
            ("severity", "severity", Form::Text),
            ("status", "status", Form::Text),
            ("category", "category", Form::Text),
            ("alertCreationTime", "created", Form::Text),
            ("lastUpdateTime", "updated", Form::Text),
            ("incidentId", "incident", Form::Text),
        ],
        closed: Some(("status", "resolved")),
    }),
    ..plain()
};
