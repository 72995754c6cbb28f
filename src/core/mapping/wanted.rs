//! Which records of a stream are wanted, as a setting says it: `severity>=medium; product!=Sentinel`.
//!
//! Conditions are separated by `;` and hold together; values by `,`, of which one is enough. A record that
//! does not say what a condition asks for is wanted.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::core::json::record::JsonObject;

/// A fact that conditions ask for. Each endpoint says which member tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// How bad it is: the one that has an order.
    Severity,
    /// Kind of what happened.
    Category,
    /// Product that tells of it.
    Product,
    /// Where its handling stands.
    Status,
    /// Group of the device that it happened on.
    DeviceGroup,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 5] = [
        Self::Severity,
        Self::Category,
        Self::Product,
        Self::Status,
        Self::DeviceGroup,
    ];

    /// Its word in a setting.
    pub fn word(self) -> &'static str {
        match self {
            Self::Severity => "severity",
            Self::Category => "category",
            Self::Product => "product",
            Self::Status => "status",
            Self::DeviceGroup => "device-group",
        }
    }
}

/// Where a record tells a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// The member of this name.
    Member(&'static str),
    /// In the list, that member of each object: one that says it is enough.
    Each(&'static str, &'static str),
}

/// A comparison with what a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    AtLeast,
    AtMost,
}

/// Longest first: `>=` begins with no other, and `=` ends some.
const OPERATORS: [(&str, Operator); 4] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("!=", Operator::IsNot),
    ("=", Operator::Is),
];

/// Severities, the least first, each with the words of the services for it.
const SEVERITIES: [&[&str]; 6] = [
    &["diagnostic"],
    &["informational", "info"],
    &["low"],
    &["medium"],
    &["high"],
    &["critical"],
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct FilterCondition {
    field: Field,
    operator: Operator,
    /// One at least; one alone where order counts.
    values: Vec<String>,
}

/// The conditions of a setting, of which each must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRecords(Vec<FilterCondition>);

impl FromStr for WantedRecords {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(';').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        let conditions: Vec<_> = parts.map(condition).collect::<Result<_, _>>()?;
        if conditions.is_empty() {
            return Err("has no condition: write one such as `severity>=medium`".to_owned());
        }
        Ok(Self(conditions))
    }
}

fn condition(text: &str) -> Result<FilterCondition, String> {
    let found = OPERATORS.into_iter().filter_map(|(sign, operator)| {
        let at = text.find(sign)?;
        Some((at, sign, operator))
    });
    // The first one in the text; of two that begin there the longer.
    let Some((_, sign, operator)) = found.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())) else {
        return Err(format!(
            "says `{text}`, which is no condition: write a field, one of = != >= <=, and values, such as \
             `severity>=medium`"
        ));
    };
    let (name, values) = text.split_once(sign).unwrap_or((text, ""));
    let name = name.trim();
    let field = Field::ALL
        .into_iter()
        .find(|field| field.word().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let words = Field::ALL.map(Field::word);
            format!(
                "asks for `{name}`, which is no field: there are {}",
                words.join(", ")
            )
        })?;
    let values: Vec<String> = values
        .split(',')
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect();
    let word = field.word();
    if values.is_empty() {
        return Err(format!(
            "compares `{word}` with nothing: put a value behind `{sign}`"
        ));
    }
    let ordered = matches!(operator, Operator::AtLeast | Operator::AtMost);
    if ordered && (field != Field::Severity || values.len() > 1) {
        return Err(format!(
            "says `{text}`: `{sign}` is for one severity; list values behind = or != instead"
        ));
    }
    if field == Field::Severity
        && let Some(value) = values.iter().find(|value| severity(value).is_none())
    {
        let words = SEVERITIES.map(|words| words[0]);
        return Err(format!(
            "knows no severity `{value}`: there are {}",
            words.join(", ")
        ));
    }
    Ok(FilterCondition {
        field,
        operator,
        values,
    })
}

/// The place of a severity in their order, in whichever spelling: `SEVERITY_LEVEL_HIGH` is `High`. None for
/// those that tell nothing, such as `unknownFutureValue`.
fn severity(text: &str) -> Option<usize> {
    let last = text.rsplit('_').next()?;
    let is = |word: &&str| word.eq_ignore_ascii_case(last);
    SEVERITIES.iter().position(|words| words.iter().any(is))
}

/// True when a record says a value: as it is written, or behind the prefix that all values of its
/// enumeration have (`INCIDENT_STATUS_CLOSED` is `closed`).
fn says(text: &str, value: &str) -> bool {
    if text.eq_ignore_ascii_case(value) {
        return true;
    }
    let shouted = text
        .bytes()
        .all(|byte| byte == b'_' || byte.is_ascii_uppercase());
    let start = text.len().checked_sub(value.len());
    let ending = start.and_then(|start| Some((start, text.get(start..)?)));
    shouted
        && ending.is_some_and(|(start, ending)| {
            ending.eq_ignore_ascii_case(value)
                && text.as_bytes().get(start.wrapping_sub(1)) == Some(&b'_')
        })
}

impl FilterCondition {
    fn holds(&self, told: &str) -> Option<bool> {
        let any = || match self.field {
            Field::Severity => {
                let told = severity(told)?;
                Some(
                    self.values
                        .iter()
                        .any(|value| severity(value) == Some(told)),
                )
            }
            _ => Some(self.values.iter().any(|value| says(told, value))),
        };
        match self.operator {
            Operator::Is => any(),
            Operator::IsNot => any().map(|is| !is),
            Operator::AtLeast => Some(severity(told)? >= self.bound()?),
            Operator::AtMost => Some(severity(told)? <= self.bound()?),
        }
    }

    fn bound(&self) -> Option<usize> {
        self.values.first().and_then(|value| severity(value))
    }

    /// Whether a record meets it, when the record tells.
    fn is_met(&self, teller: Teller, record: &JsonObject<'_>) -> Option<bool> {
        match teller {
            Teller::Member(name) => self.holds(&record.text(name)?),
            Teller::Each(list, name) => {
                let list = record.get(list);
                let list =
                    list.and_then(|list| serde_json::from_str::<Vec<Value>>(list.get()).ok());
                let told = list
                    .iter()
                    .flatten()
                    .filter_map(|one| one.get(name)?.as_str());
                let held: Vec<bool> = told.filter_map(|told| self.holds(told)).collect();
                // A record that has it beside others is not without it.
                let met = match self.operator {
                    Operator::IsNot => held.iter().all(|holds| *holds),
                    _ => held.contains(&true),
                };
                (!held.is_empty()).then_some(met)
            }
        }
    }
}

impl WantedRecords {
    /// Whether a record is wanted, by the members that tell the fields; of several for one field the first
    /// that tells counts.
    pub fn has(&self, tellers: &[(Field, Teller)], record: &JsonObject<'_>) -> bool {
        self.0.iter().all(|condition| {
            let tellers = tellers.iter();
            let mut tellers = tellers.filter(|(field, _)| *field == condition.field);
            let met = tellers.find_map(|(_, teller)| condition.is_met(*teller, record));
            met.unwrap_or(true)
        })
    }

    /// The first field that these tellers don't tell.
    pub fn untold(&self, tellers: &[(Field, Teller)]) -> Option<Field> {
        let mut asked = self.0.iter().map(|condition| condition.field);
        asked.find(|asked| !tellers.iter().any(|(field, _)| field == asked))
    }
}

impl fmt::Display for WantedRecords {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.0.iter().enumerate() {
            let apart = if at == 0 { "" } else { "; " };
            let mut operators = OPERATORS.iter();
            let sign = operators.find(|(_, operator)| *operator == condition.operator);
            let sign = sign.map_or("=", |(sign, _)| *sign);
            let values = condition.values.join(", ");
            write!(to, "{apart}{}{sign}{values}", condition.field.word())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TELLERS: &[(Field, Teller)] = &[
        (Field::Severity, Teller::Member("severity")),
        (Field::Status, Teller::Member("status")),
        (Field::Product, Teller::Each("alerts", "serviceSource")),
        (Field::Category, Teller::Member("category")),
    ];

    fn wanted(filter: &str, record: &str) -> bool {
        let filter: WantedRecords = filter.parse().unwrap();
        filter.has(TELLERS, &JsonObject::of(record.as_bytes()).unwrap())
    }

    #[test]
    fn severities_have_an_order_in_every_spelling() {
        for (filter, record, is) in [
            ("severity>=medium", r#"{"severity":"high"}"#, true),
            ("severity>=medium", r#"{"severity":"Medium"}"#, true),
            ("severity>=medium", r#"{"severity":"informational"}"#, false),
            (
                "severity >= Medium",
                r#"{"severity":"SEVERITY_LEVEL_LOW"}"#,
                false,
            ),
            (
                "severity>=medium",
                r#"{"severity":"INCIDENT_SEVERITY_LEVEL_HIGH"}"#,
                true,
            ),
            (
                "severity<=low",
                r#"{"severity":"SEVERITY_LEVEL_DIAGNOSTIC"}"#,
                true,
            ),
            ("severity<=low", r#"{"severity":"Critical"}"#, false),
            ("severity=low,high", r#"{"severity":"high"}"#, true),
            ("severity!=low", r#"{"severity":"Low"}"#, false),
            // It tells nothing, and is not lost.
            (
                "severity>=high",
                r#"{"severity":"unknownFutureValue"}"#,
                true,
            ),
            (
                "severity=high",
                r#"{"severity":"SEVERITY_LEVEL_UNSPECIFIED"}"#,
                true,
            ),
            ("severity>=high", r#"{"severity":null}"#, true),
            ("severity>=high", "{}", true),
        ] {
            assert_eq!(wanted(filter, record), is, "{filter} {record}");
        }
    }

    #[test]
    fn values_are_compared_whole_and_behind_the_prefix_of_their_enumeration() {
        for (filter, record, is) in [
            (
                "status!=closed",
                r#"{"status":"INCIDENT_STATUS_CLOSED"}"#,
                false,
            ),
            (
                "status=in_progress",
                r#"{"status":"INCIDENT_STATUS_IN_PROGRESS"}"#,
                true,
            ),
            ("status=progress", r#"{"status":"inProgress"}"#, false),
            (
                "status=losed",
                r#"{"status":"INCIDENT_STATUS_CLOSED"}"#,
                false,
            ),
            ("status=resolved, active", r#"{"status":"Active"}"#, true),
            (
                "category=Malware",
                r#"{"category":"Unwanted_Malware"}"#,
                false,
            ),
            (
                "status=active; severity>=high",
                r#"{"status":"active","severity":"low"}"#,
                false,
            ),
        ] {
            assert_eq!(wanted(filter, record), is, "{filter} {record}");
        }
    }

    #[test]
    fn of_a_list_one_that_has_it_is_enough() {
        let both = r#"{"alerts":[{"serviceSource":"a"},{"serviceSource":"b"},{"id":"1"}]}"#;
        for (filter, record, is) in [
            ("product=b", both, true),
            ("product=c", both, false),
            ("product!=b", both, false),
            ("product!=c", both, true),
            ("product=c", r#"{"alerts":[]}"#, true),
            ("product=c", "{}", true),
        ] {
            assert_eq!(wanted(filter, record), is, "{filter} {record}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told_with_what_would_be() {
        let refused = |text: &str| text.parse::<WantedRecords>().unwrap_err();
        insta::assert_snapshot!(
            [" ; ", "severity", "severty=low", "severity>=", "status>=new", "severity>=low,high", "severity=bad"]
                .map(refused)
                .join("\n"),
            @r"
            has no condition: write one such as `severity>=medium`
            says `severity`, which is no condition: write a field, one of = != >= <=, and values, such as `severity>=medium`
            asks for `severty`, which is no field: there are severity, category, product, status, device-group
            compares `severity` with nothing: put a value behind `>=`
            says `status>=new`: `>=` is for one severity; list values behind = or != instead
            says `severity>=low,high`: `>=` is for one severity; list values behind = or != instead
            knows no severity `bad`: there are diagnostic, informational, low, medium, high, critical
            "
        );
    }

    proptest! {
        /// What is shown in reports can be set again.
        #[test]
        fn a_filter_reads_as_it_is_shown(
            fields in prop::collection::vec((0usize..5, 0usize..4, "[a-zA-Z]{1,8}"), 1..5)
        ) {
            let conditions = fields.into_iter().map(|(field, operator, value)| {
                let operator = OPERATORS[operator].1;
                let field = match operator {
                    Operator::AtLeast | Operator::AtMost => Field::Severity,
                    _ => Field::ALL[field],
                };
                let value = if field == Field::Severity { "high".to_owned() } else { value };
                FilterCondition { field, operator, values: vec![value] }
            });
            let filter = WantedRecords(conditions.collect());
            prop_assert_eq!(filter.to_string().parse::<WantedRecords>(), Ok(filter));
        }
    }
}
