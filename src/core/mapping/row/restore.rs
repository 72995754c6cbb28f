//! Rows → records: the proof that nothing was lost.

use serde_json::{Map, Value};

use super::{CAPITALS, DETAILS, FROM, convert::revert, is_ours};
use crate::core::mapping::rule::{As, Rule, To};

/// The record of a row: equal to the one that came, but for null and empty members, and for values
/// that were cut.
pub fn restore(row: &Map<String, Value>, rules: &'static [Rule]) -> Value {
    let mut rest = match row.get("additionalFields") {
        Some(Value::Object(rest)) => rest.clone(),
        _ => Map::new(),
    };
    rest.remove(DETAILS);
    let from = rest.remove(FROM).unwrap_or_default();
    let mut record: Map<String, Value> = rest
        .into_iter()
        .map(|(key, value)| match key.strip_prefix('@') {
            Some(own) if is_ours(own) => (own.to_owned(), value),
            _ => (key, value),
        })
        .collect();
    Restorer { row, from }.members(rules, "", &mut record);
    Value::Object(record)
}

struct Restorer<'r> {
    row: &'r Map<String, Value>,
    from: Value,
}

impl Restorer<'_> {
    /// A column's value, unless it was looked up.
    fn column(&self, column: &str) -> Option<&Value> {
        let looked_up = self.from.get(DETAILS).and_then(Value::as_array);
        let is_looked_up = looked_up.is_some_and(|columns| columns.iter().any(|c| c == column));
        self.row.get(column).filter(|_| !is_looked_up)
    }

    fn members(&self, rules: &'static [Rule], path: &str, record: &mut Map<String, Value>) {
        // What an object is made of is the truth as well, where another column holds a conversion.
        let is_part = |rule: &&Rule| matches!(rule.to, To::Column(_, As::Member(_)));
        let (parts, others): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(is_part);
        for rule in parts.into_iter().chain(others) {
            let here = format!("{path}{}", rule.member);
            match rule.to {
                // A member that stayed is the truth; its column holds a conversion.
                To::Column(..) if record.contains_key(rule.member) => {}
                To::Column(column, how) => {
                    let filled_here = match self.from.get(column) {
                        Some(other) => *other == here.as_str(),
                        None => rule.alternate == (self.from == CAPITALS),
                    };
                    // An object that is made of members need not have each of them.
                    let has_it = |value: &&Value| match how {
                        As::Member(name) => value.get(name).is_some(),
                        _ => true,
                    };
                    let value = self.column(column).filter(|_| filled_here);
                    if let Some(value) = value.filter(has_it) {
                        record.insert(rule.member.to_owned(), revert(value, how));
                    }
                }
                To::JsonObject { rest, rules } => {
                    let mut inner = match record.get(rule.member) {
                        Some(Value::Object(inner)) => inner.clone(),
                        Some(_) => continue,
                        None => rest
                            .and_then(|column| self.column(column)?.as_object().cloned())
                            .unwrap_or_default(),
                    };
                    self.members(rules, &format!("{here}."), &mut inner);
                    if !inner.is_empty() {
                        record.insert(rule.member.to_owned(), Value::Object(inner));
                    }
                }
            }
        }
    }
}
