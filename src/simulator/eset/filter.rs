//! The part of the filter language that speaks of times:
//! `incident.update_time >= timestamp("…") && incident.create_time < timestamp('…')`.

use super::query::parse_time;

const MAX_FILTER: usize = 200;

/// A time of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Created,
    Updated,
}

impl Field {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("incident.").unwrap_or(text) {
            "create_time" | "createTime" => Some(Self::Created),
            "update_time" | "updateTime" => Some(Self::Updated),
            _ => None,
        }
    }

    pub(super) fn of(self, created: i64, updated: i64) -> i64 {
        match self {
            Self::Created => created,
            Self::Updated => updated,
        }
    }
}

#[derive(Debug)]
struct Clause {
    field: Field,
    operator: &'static str,
    time: i64,
}

/// Clauses that must all hold.
#[derive(Debug)]
pub(super) struct Filter(Vec<Clause>);

impl Filter {
    /// None when the service would not understand it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_FILTER {
            return None;
        }
        if text.trim().is_empty() {
            return Some(Self(Vec::new()));
        }
        text.split("&&")
            .map(clause)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// No incident that was updated before this can pass.
    pub(super) fn earliest(&self) -> i64 {
        let bounds = self
            .0
            .iter()
            .filter(|clause| matches!(clause.operator, ">=" | ">" | "=="));
        bounds
            .map(|clause| clause.time)
            .max()
            .unwrap_or(i64::MIN / 2)
    }

    pub(super) fn admits(&self, created: i64, updated: i64) -> bool {
        self.0.iter().all(|clause| {
            let time = clause.field.of(created, updated);
            match clause.operator {
                ">=" => time >= clause.time,
                "<=" => time <= clause.time,
                "==" => time == clause.time,
                "!=" => time != clause.time,
                ">" => time > clause.time,
                _ => time < clause.time,
            }
        })
    }
}

fn clause(text: &str) -> Option<Clause> {
    const OPERATORS: [&str; 6] = [">=", "<=", "==", "!=", ">", "<"];
    let text = text.trim();
    let at = text.find(['>', '<', '=', '!'])?;
    let (field, rest) = (text.get(..at)?, text.get(at..)?);
    let operator = OPERATORS
        .into_iter()
        .find(|operator| rest.starts_with(operator))?;
    let value = rest.strip_prefix(operator)?.trim();
    let quoted = value.strip_prefix("timestamp(")?.strip_suffix(')')?.trim();
    let unquoted = |quote| quoted.strip_prefix(quote)?.strip_suffix(quote);
    let time = parse_time(unquoted('"').or_else(|| unquoted('\''))?)?;
    Some(Clause {
        field: Field::parse(field.trim())?,
        operator,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_quotes_both_spellings_and_every_operator_are_read() {
        let time = parse_time("2026-01-01T00:00:00Z").unwrap();
        for (text, before, at, after) in [
            (
                "incident.update_time >= timestamp(\"2026-01-01T00:00:00Z\")",
                false,
                true,
                true,
            ),
            (
                "updateTime<=timestamp('2026-01-01T00:00:00Z')",
                true,
                true,
                false,
            ),
            (
                "update_time == timestamp('2026-01-01T00:00Z')",
                false,
                true,
                false,
            ),
            (
                "update_time != timestamp('2026-01-01T00:00Z')",
                true,
                false,
                true,
            ),
            (
                "update_time > timestamp('2026-01-01T00:00Z')",
                false,
                false,
                true,
            ),
            (
                "incident.updateTime < timestamp('2026-01-01T00:00Z')",
                true,
                false,
                false,
            ),
            ("", true, true, true),
        ] {
            let filter = Filter::parse(text).unwrap();
            let admits = [time - 1, time, time + 1].map(|updated| filter.admits(0, updated));
            assert_eq!(admits, [before, at, after], "{text}");
        }
        let both = "create_time >= timestamp('2026-01-01T00:00Z') && update_time < timestamp('2026-01-02T00:00Z')";
        assert!(Filter::parse(both).unwrap().admits(time, time));
        assert!(!Filter::parse(both).unwrap().admits(time - 1, time));
    }

    #[test]
    fn what_the_service_does_not_understand_is_refused() {
        for text in [
            "update_time >= '2026-01-01T00:00:00Z'",
            "update_time >= timestamp(\"2026-01-01T00:00:00Z')",
            "update_time >= timestamp('2026') ",
            "update_time >= timestamp('2026-01-01T00:00Z') AND update_time < timestamp('2026-01-02T00:00Z')",
            "colour == timestamp('2026-01-01T00:00Z')",
            "update_time",
        ] {
            assert!(Filter::parse(text).is_none(), "{text}");
        }
        assert!(Filter::parse(&" ".repeat(201)).is_none());
    }
}
