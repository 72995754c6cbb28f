//! Incidents, from two APIs.

use super::{
    super::{GRAPH, XDR},
    ALERTS_BY_GRAPH, ALERTS_NAMED, BARE, BY_GRAPH, ENDPOINT_PRODUCT, ENDPOINTS_ALONE,
    INCIDENTS_NAMED, LIST, OLDEST_FIRST, WITHOUT_SENTINEL, plain,
};
use crate::core::{
    mapping::{
        columns,
        filter::Filter,
        from_list::gather,
        rule::{As, Rule, or_take, take},
        wanted::{Field, Teller},
    },
    position::{paging::Paging, record_key::KeyRule},
    protocol::{
        choice::{Choice, Choices, Switch},
        endpoint::{Endpoint, ListQuery, TimeFilter},
    },
};

const INCIDENT: &[Rule] = &[
    take("id", "uuid", As::Text),
    take("displayName", "displayName", As::Text),
    take("description", "description", As::Text),
    take("severity", "severity", As::Text),
    take("assignedTo", "assigneeUuid", As::Text),
    take("status", "status", As::Text),
    take("createdDateTime", "createTime", As::Time),
    take("lastUpdateDateTime", "updateTime", As::Time),
    take("customTags", "tags", As::Texts("systemTags")),
    or_take("systemTags", "tags", As::Texts("customTags")),
    take("classification", "resolveReason", As::Text),
];

const INCIDENT_LIST: ListQuery = ListQuery {
    path: "/v1.0/security/incidents",
    filter: TimeFilter::OData("lastUpdateDateTime"),
    parameters: OLDEST_FIRST,
    // More than 50 are refused by some tenants.
    paging: Paging::Boundary {
        top: 50,
        ordered: true,
    },
    ..LIST
};

const NAMED: &[Choice] = &[INCIDENTS_NAMED];
const WITHOUT_RESOLVED: Choice = Choice("DEFENDER_IGNORE_RESOLVED_INCIDENTS", "yes");

const TELLERS: &[(Field, Teller)] = &[
    (Field::Severity, Teller::Member("severity")),
    (Field::Status, Teller::Member("status")),
];

/// Which products have a part in an incident its alerts tell.
const TELLERS_WITH_ALERTS: &[(Field, Teller)] = &[
    (Field::Severity, Teller::Member("severity")),
    (Field::Status, Teller::Member("status")),
    (Field::Product, Teller::Each("alerts", "serviceSource")),
];

/// As far as incidents come with their alerts: one that other products have a part in is kept.
const OWN_ALONE: Filter = Filter::AllOwn("alerts", "serviceSource");
const NO_ENDPOINT: Filter = Filter::NoneSays("alerts", "serviceSource", ENDPOINT_PRODUCT);

const fn incidents() -> Endpoint {
    Endpoint {
        stream: "defender.incidents",
        switch: Switch {
            any: NAMED,
            all: &[BY_GRAPH, BARE],
        },
        domain: GRAPH,
        filters: &[
            (&[WITHOUT_SENTINEL], OWN_ALONE),
            (
                &[WITHOUT_SENTINEL, BARE, ALERTS_NAMED, ALERTS_BY_GRAPH],
                Filter::OwnByAlerts {
                    alerts: "defender.alerts",
                    id: "id",
                    opened: "createdDateTime",
                    changed: "lastUpdateDateTime",
                },
            ),
            (&[ENDPOINTS_ALONE], NO_ENDPOINT),
            (
                &[WITHOUT_RESOLVED],
                Filter::SaysBeforeSent("status", "resolved"),
            ),
        ],
        tellers: TELLERS,
        opened: Some("createdDateTime"),
        list: INCIDENT_LIST,
        roles: &[
            "SecurityIncident.Read.All",
            "SecurityIncident.ReadWrite.All",
        ],
        fix: "grant the app the application role `SecurityIncident.Read.All` of Microsoft Graph, with \
          admin consent, or set `DEFENDER_INCIDENTS_API=xdr` for an app that holds \
          `Incident.Read.All`",
        table: &columns::INCIDENTS,
        identity: KeyRule {
            id: "id",
            version: Some("lastUpdateDateTime"),
            time: "lastUpdateDateTime",
            ..KeyRule::PLAIN
        },
        fingerprints: "defender.incidents",
        schema: Some("incidents"),
        rules: INCIDENT,
        ..plain()
    }
}

/// Incidents, each version of them.
pub static INCIDENTS: Endpoint = incidents();

/// Incidents of Graph with their alerts.
pub static INCIDENTS_WITH_ALERTS: Endpoint = Endpoint {
    switch: Switch {
        any: NAMED,
        all: &[BY_GRAPH, Choice("DEFENDER_INCIDENT_ALERTS", "yes")],
    },
    tellers: TELLERS_WITH_ALERTS,
    collect: &[
        gather("detectionUuids", &["alerts", "id"]),
        gather("deviceUuids", &["alerts", "evidence", "mdeDeviceId"]),
    ],
    list: ListQuery {
        parameters: &[
            ("$orderby", "lastUpdateDateTime asc"),
            ("$expand", "alerts"),
        ],
        droppable: Some("$expand"),
        ..INCIDENT_LIST
    },
    ..incidents()
};

/// Incidents of the XDR API, always with their alerts.
pub static XDR_INCIDENTS: Endpoint = Endpoint {
    switch: Switch {
        any: NAMED,
        all: &[Choice("DEFENDER_INCIDENTS_API", "xdr")],
    },
    filters: &[
        (&[WITHOUT_SENTINEL], OWN_ALONE),
        (&[ENDPOINTS_ALONE], NO_ENDPOINT),
        (
            &[WITHOUT_RESOLVED],
            Filter::SaysBeforeSent("status", "Resolved"),
        ),
    ],
    tellers: TELLERS_WITH_ALERTS,
    opened: Some("createdTime"),
    collect: &[
        gather("detectionUuids", &["alerts", "alertId"]),
        gather("deviceUuids", &["alerts", "devices", "mdatpDeviceId"]),
    ],
    domain: XDR,
    list: ListQuery {
        path: "/api/incidents",
        filter: TimeFilter::OData("lastUpdateTime"),
        // It takes no `$orderby`.
        parameters: &[],
        paging: Paging::Boundary {
            top: 100,
            ordered: false,
        },
        ..LIST
    },
    roles: &["Incident.Read.All", "Incident.ReadWrite.All"],
    fix: "grant the app the application role `Incident.Read.All` of `Microsoft Threat Protection`, \
          with admin consent, or set `DEFENDER_INCIDENTS_API=graph` for an app that holds \
          `SecurityIncident.Read.All`",
    identity: KeyRule {
        id: "incidentId",
        version: Some("lastUpdateTime"),
        time: "lastUpdateTime",
        ..KeyRule::PLAIN
    },
    fingerprints: "defender.incidents.xdr",
    schema: Some("xdr-incidents"),
    rules: &[
        take("incidentId", "uuid", As::NumberText),
        take("incidentName", "displayName", As::Text),
        take("severity", "severity", As::Text),
        take("assignedTo", "assigneeUuid", As::Text),
        take("status", "status", As::Text),
        take("createdTime", "createTime", As::Time),
        take("lastUpdateTime", "updateTime", As::Time),
        take("tags", "tags", As::Json),
        take("classification", "resolveReason", As::Text),
    ],
    ..incidents()
};

/// True when incidents that Sentinel itself has raised are not wanted, and don't say so themselves.
pub(crate) fn hides_own_incidents(choices: &Choices) -> bool {
    INCIDENTS.switch.is_on(choices) && choices.has(WITHOUT_SENTINEL)
}
