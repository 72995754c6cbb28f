//! The two tables, column by column: the one list that rows, embedded tables and templates follow.

use std::sync::OnceLock;

/// The type of a column, as Log Analytics names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text, at most 64 KB.
    String,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A 64-bit floating-point number.
    Real,
    /// True or false.
    Boolean,
    /// A time in UTC, in steps of 100 ns.
    Datetime,
    /// Any JSON value, at most 64 KB.
    Dynamic,
}

impl Type {
    /// The name in a table or data collection rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::Datetime => "datetime",
            Self::Dynamic => "dynamic",
        }
    }
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, as in Log Analytics.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
}

/// One table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name; the stream of a data collection rule is `Custom-` and this name.
    pub name: &'static str,
    /// The columns that the stock ESET connector has, in its order.
    stock: &'static [Column],
    all: OnceLock<Vec<Column>>,
}

const fn column(name: &'static str, kind: Type) -> Column {
    Column { name, kind }
}

/// When a row was ingested: the first column of every table.
pub const TIME: Column = column("TimeGenerated", Type::Datetime);

/// Detections, alerts, assets, vulnerabilities, events and health.
///
/// Names and types of the stock connector, so that parsers and rules go on working: note the
/// dynamic `detectionUuid`, the textual `occurTime` and `severityScore`.
pub static DETECTIONS: Table = Table {
    name: "IntegrationTable_CL",
    stock: &[
        TIME,
        column("typeName", Type::String),
        column("objectName", Type::String),
        column("networkCommunication", Type::Dynamic),
        column("detectionUuid", Type::Dynamic),
        column("objectTypeName", Type::String),
        column("occurTime", Type::String),
        column("displayName", Type::String),
        column("responses", Type::Dynamic),
        column("objectHashSha1", Type::String),
        column("severityLevel", Type::String),
        column("category", Type::String),
        column("objectUrl", Type::String),
        column("context", Type::Dynamic),
        column("groupSize", Type::Int),
        column("severityScore", Type::String),
        column("deviceDisplayName", Type::String),
        column("deviceUuid", Type::String),
        column("userNameBase", Type::String),
        column("processPath", Type::String),
        column("processUuid", Type::String),
        column("processCommandline", Type::String),
        column("objectSizeBytes", Type::Int),
        column("edrRuleUuid", Type::String),
        column("note", Type::String),
        column("resolved", Type::Boolean),
        column("cloudOfficeTenantUuid", Type::String),
        column("scanUuid", Type::String),
        column("triggeringEvent", Type::Dynamic),
    ],
    all: OnceLock::new(),
};

/// Incidents, one row per version.
pub static INCIDENTS: Table = Table {
    name: "IntegrationTableIncidents_CL",
    stock: &[
        TIME,
        column("uuid", Type::String),
        column("displayName", Type::String),
        column("description", Type::String),
        column("severity", Type::String),
        column("assigneeUuid", Type::String),
        column("triageDuration", Type::String),
        column("status", Type::String),
        column("detectionUuids", Type::Dynamic),
        column("createTime", Type::Datetime),
        column("updateTime", Type::Datetime),
        column("deviceUuids", Type::Dynamic),
        column("tags", Type::Dynamic),
        column("resolveReason", Type::String),
        column("metrics", Type::Dynamic),
    ],
    all: OnceLock::new(),
};

/// What this connector adds to every table.
pub const ADDED: &[Column] = &[
    column("providerName", Type::String),
    column("connectionName", Type::String),
    column("streamName", Type::String),
    column("recordId", Type::String),
    column("recordVersion", Type::String),
    column("eventTime", Type::Datetime),
    column("truncatedFields", Type::Dynamic),
    column("additionalFields", Type::Dynamic),
    column("batchId", Type::String),
];

/// The tables that all sources share. `ROUTES` adds others.
pub static TABLES: [&Table; 2] = [&DETECTIONS, &INCIDENTS];

impl Table {
    /// All columns: the stock ones, then ours.
    pub fn columns(&'static self) -> &'static [Column] {
        self.all.get_or_init(|| [self.stock, ADDED].concat())
    }

    /// The column of this name, in exactly this case.
    pub fn column(&'static self, name: &str) -> Option<Column> {
        self.columns()
            .iter()
            .find(|column| column.name == name)
            .copied()
    }
}

/// Names that Log Analytics keeps for itself
/// (`learn.microsoft.com/azure/azure-monitor/logs/create-custom-table`).
const RESERVED: &[&str] = &[
    "_ResourceId",
    "id",
    "_SubscriptionId",
    "TenantId",
    "Type",
    "UniqueId",
    "Title",
    // Filled by the service in every table.
    "SourceSystem",
];

/// A name that a column may have: `name`, with a `_` behind it when the service reserves it or when
/// it differs from one of `taken` only by case.
///
/// ```
/// use sentinel_connector::core::mapping::columns::safe_name;
/// assert_eq!(safe_name("Title", &[]), "Title_");
/// assert_eq!(safe_name("deviceid", &["DeviceId"]), "deviceid_");
/// assert_eq!(safe_name("category", &["DeviceId"]), "category");
/// ```
pub fn safe_name(name: &str, taken: &[&str]) -> String {
    let mut safe = name.to_owned();
    while RESERVED
        .iter()
        .chain(taken)
        .any(|other| other.eq_ignore_ascii_case(&safe))
    {
        safe.push('_');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_name_is_one_the_service_takes() {
        for table in TABLES {
            let mut before: Vec<&str> = Vec::new();
            for column in table.columns() {
                assert_eq!(
                    safe_name(column.name, &before),
                    column.name,
                    "in {}",
                    table.name
                );
                assert!(column.name.len() <= 45);
                assert!(
                    column
                        .name
                        .starts_with(|first: char| first.is_ascii_alphabetic())
                );
                assert!(
                    column
                        .name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_')
                );
                before.push(column.name);
            }
        }
    }

    #[test]
    fn the_stock_tables_have_the_columns_of_the_stock_connector() {
        assert_eq!(DETECTIONS.columns().len(), 29 + ADDED.len());
        assert_eq!(INCIDENTS.columns().len(), 15 + ADDED.len());
        assert_eq!(
            DETECTIONS.column("detectionUuid").unwrap().kind,
            Type::Dynamic
        );
        assert_eq!(DETECTIONS.column("detectionuuid"), None);
    }
}
