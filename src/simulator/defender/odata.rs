//! The part of `OData`'s filter language that the services take: comparisons, `and`, `or` and
//! brackets.

use crate::simulator::world::defender::parse as parse_time;

/// What a member is compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Time,
    Text,
    Number,
}

/// The members that a filter may name.
pub(super) type JsonObject = &'static [(&'static str, Kind)];

/// A value of a member, or of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Time(i64),
    Text(String),
    Number(f64),
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Debug)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare {
        member: &'static str,
        operator: Operator,
        value: Literal,
    },
}

/// A filter; the empty one admits everything.
#[derive(Debug)]
pub(super) struct Filter(Expression);

impl Filter {
    /// Why a filter is not understood, in words for the answer.
    pub(super) fn parse(text: &str, members: JsonObject) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Expression::All(Vec::new())));
        }
        let words = words(text)?;
        let mut reader = Reader {
            words: &words,
            members,
        };
        let expression = reader.any()?;
        match reader.words.first() {
            None => Ok(Self(expression)),
            Some(word) => Err(format!("Syntax error at '{word}' in '{text}'.")),
        }
    }

    /// True when nothing is filtered.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.0, Expression::All(all) if all.is_empty())
    }

    /// No record whose `member` is less than this can pass.
    pub(super) fn earliest(&self, member: &str) -> i64 {
        earliest(&self.0, member)
    }

    /// Whether a record passes that has these members.
    pub(super) fn admits(&self, of: &dyn Fn(&str) -> Literal) -> bool {
        admits(&self.0, of)
    }
}

fn earliest(expression: &Expression, name: &str) -> i64 {
    const NEVER: i64 = i64::MIN / 2;
    match expression {
        Expression::All(all) => {
            let bounds = all.iter().map(|one| earliest(one, name));
            bounds.max().unwrap_or(NEVER)
        }
        Expression::Any(any) => {
            let bounds = any.iter().map(|one| earliest(one, name));
            bounds.min().unwrap_or(NEVER)
        }
        Expression::Compare {
            member,
            operator: Operator::Eq | Operator::Gt | Operator::Ge,
            value: Literal::Time(time),
        } if *member == name => *time,
        Expression::Compare { .. } => NEVER,
    }
}

fn admits(expression: &Expression, of: &dyn Fn(&str) -> Literal) -> bool {
    match expression {
        Expression::All(all) => all.iter().all(|one| admits(one, of)),
        Expression::Any(any) => any.iter().any(|one| admits(one, of)),
        Expression::Compare {
            member,
            operator,
            value,
        } => {
            let order = match (of(member), value) {
                (Literal::Time(left), Literal::Time(right)) => Some(left.cmp(right)),
                (Literal::Number(left), Literal::Number(right)) => left.partial_cmp(right),
                // The services compare enums without regard to case.
                (Literal::Text(left), Literal::Text(right)) => {
                    Some(left.to_ascii_lowercase().cmp(&right.to_ascii_lowercase()))
                }
                (Literal::Null, Literal::Null) => Some(std::cmp::Ordering::Equal),
                _ => None,
            };
            match operator {
                Operator::Ne => order.is_none_or(std::cmp::Ordering::is_ne),
                Operator::Eq => order.is_some_and(std::cmp::Ordering::is_eq),
                Operator::Gt => order.is_some_and(std::cmp::Ordering::is_gt),
                Operator::Ge => order.is_some_and(std::cmp::Ordering::is_ge),
                Operator::Lt => order.is_some_and(std::cmp::Ordering::is_lt),
                Operator::Le => order.is_some_and(std::cmp::Ordering::is_le),
            }
        }
    }
}

/// Names, operators, brackets and literals; text keeps its quotes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' => {}
            '(' | ')' => words.push(letter.to_string()),
            '\'' => {
                let mut word = String::from(letter);
                loop {
                    let next = letters
                        .next()
                        .ok_or("There is an unterminated string literal.")?;
                    word.push(next);
                    if next == '\'' {
                        // A quote is written as two.
                        if letters.next_if_eq(&'\'').is_none() {
                            break;
                        }
                    }
                }
                words.push(word);
            }
            _ => {
                let mut word = String::from(letter);
                while let Some(next) = letters.next_if(|next| !" ()'".contains(*next)) {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

struct Reader<'a> {
    words: &'a [String],
    members: JsonObject,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<String, String> {
        let (word, rest) = self.words.split_first().ok_or("Expression expected.")?;
        self.words = rest;
        Ok(word.clone())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first().is_some_and(|next| next == word);
        if found {
            self.words = self.words.get(1..).unwrap_or_default();
        }
        found
    }

    fn any(&mut self) -> Result<Expression, String> {
        let mut any = vec![self.all()?];
        while self.take("or") {
            any.push(self.all()?);
        }
        Ok(if any.len() == 1 {
            any.remove(0)
        } else {
            Expression::Any(any)
        })
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut all = vec![self.one()?];
        while self.take("and") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Expression::All(all)
        })
    }

    fn one(&mut self) -> Result<Expression, String> {
        if self.take("(") {
            let inner = self.any()?;
            return if self.take(")") {
                Ok(inner)
            } else {
                Err("')' expected.".to_owned())
            };
        }
        let name = self.next()?;
        let (member, kind) = *self
            .members
            .iter()
            .find(|(member, _)| *member == name)
            .ok_or_else(|| {
                format!("The property '{name}' can't be used in the $filter query option.")
            })?;
        let operator = match self.next()?.as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "gt" => Operator::Gt,
            "ge" => Operator::Ge,
            "lt" => Operator::Lt,
            "le" => Operator::Le,
            other => return Err(format!("'{other}' is no operator.")),
        };
        let word = self.next()?;
        let text = word
            .strip_prefix('\'')
            .and_then(|word| word.strip_suffix('\''));
        let value = match (kind, text) {
            _ if word == "null" => Some(Literal::Null),
            (Kind::Text, Some(text)) => Some(Literal::Text(text.to_owned())),
            (Kind::Time, None) => parse_time(&word).map(Literal::Time),
            (Kind::Number, None) => word.parse().ok().map(Literal::Number),
            _ => None,
        };
        let value = value.ok_or_else(|| {
            format!(
                "A binary operator with incompatible types was detected at '{name}' and {word}."
            )
        })?;
        Ok(Expression::Compare {
            member,
            operator,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: JsonObject = &[
        ("seen", Kind::Time),
        ("severity", Kind::Text),
        ("group", Kind::Number),
    ];

    fn filter(text: &str) -> Filter {
        Filter::parse(text, MEMBERS).unwrap()
    }

    fn record(seen: &str, severity: &str, group: f64) -> impl Fn(&str) -> Literal {
        let (seen, severity) = (parse_time(seen).unwrap(), severity.to_owned());
        move |name| match name {
            "seen" => Literal::Time(seen),
            "severity" => Literal::Text(severity.clone()),
            _ => Literal::Number(group),
        }
    }

    #[test]
    fn and_binds_before_or_and_brackets_before_both() {
        let seen = "seen ge 2026-01-02T00:00:00Z";
        let loose = filter(&format!(
            "severity eq 'High' or severity eq 'Low' and {seen}"
        ));
        let tight = filter(&format!(
            "(severity eq 'High' or severity eq 'Low') and {seen}"
        ));
        let old = record("2026-01-01T00:00:00Z", "High", 1.0);
        assert!(loose.admits(&old) && !tight.admits(&old));
        let bound = parse_time("2026-01-02T00:00:00Z").unwrap();
        assert_eq!(tight.earliest("seen"), bound);
        assert!(loose.earliest("seen") < 0);
        assert!(filter("").is_empty() && filter(" ").admits(&old));
    }

    #[test]
    fn every_operator_compares() {
        let one = record("2026-01-01T00:00:00.1234567Z", "it's", 2.0);
        for (text, expected) in [
            ("seen eq 2026-01-01T00:00:00.1234567Z", true),
            ("seen gt 2026-01-01T00:00:00.1234566Z", true),
            ("seen lt 2026-01-01T00:00:00.1234567Z", false),
            ("seen le 2026-01-01T01:00:00.1234567+01:00", true),
            ("severity eq 'IT''S'", true),
            ("severity ne 'High'", true),
            ("severity eq null", false),
            ("group ge 2 and group lt 3", true),
        ] {
            assert_eq!(filter(text).admits(&one), expected, "{text}");
        }
    }

    #[test]
    fn what_the_service_does_not_understand_is_refused() {
        for text in [
            "investigationState eq 'Running'",
            "seen ge '2026-01-01T00:00:00Z'",
            "seen ge yesterday",
            "severity eq High",
            "severity is 'High'",
            "severity eq 'High' severity",
            "(severity eq 'High'",
            "severity eq 'High",
            "severity eq",
        ] {
            assert!(Filter::parse(text, MEMBERS).is_err(), "{text}");
        }
    }
}
