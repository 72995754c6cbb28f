//! Which records a setting leaves out: as data.

use chrono::{DateTime, Utc};

use serde_json::Value;

use super::{record::Members, time::parse_time};

/// One reason to leave a record out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sift {
    /// Its member says this.
    Says(&'static str, &'static str),
    /// Its member says something else than one of these.
    SaysNot(&'static str, &'static [&'static str]),
    /// None of the objects in its list says, in that member, one of these. An empty list says
    /// nothing, and neither does one that is not there.
    NoneSays(&'static str, &'static str, &'static [&'static str]),
    /// Its member is no number above zero.
    NotPositive(&'static str),
    /// Its member says this, and nothing of the record was ever sent: what was sent is remembered by
    /// the time in the last member.
    SaysBeforeSent(&'static str, &'static str, &'static str),
    /// None is left out, but what is sent is remembered by the time in this member, for one who asks
    /// later.
    Remembered(&'static str),
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// A setting leaves it out.
    Drop,
    /// A setting leaves it out, unless something of it was sent before.
    UnlessSent,
}

/// What becomes of a record under these.
pub fn verdict(sifts: &[Sift], record: &Members<'_>) -> Verdict {
    let text = |member: &str| record.text(member);
    let says = |member: &str, value: &str| {
        text(member).is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    let mut verdict = Verdict::Keep;
    for sift in sifts {
        match *sift {
            Sift::Says(member, value) if says(member, value) => return Verdict::Drop,
            Sift::SaysNot(member, values) if !values.iter().any(|value| says(member, value)) => {
                return Verdict::Drop;
            }
            Sift::NoneSays(list, member, values) if none_says(record, list, member, values) => {
                return Verdict::Drop;
            }
            Sift::NotPositive(member)
                if text(member)
                    .and_then(|text| text.parse::<f64>().ok())
                    .is_none_or(|number| number <= 0.0) =>
            {
                return Verdict::Drop;
            }
            Sift::SaysBeforeSent(member, value, _) if says(member, value) => {
                verdict = Verdict::UnlessSent;
            }
            _ => {}
        }
    }
    verdict
}

fn none_says(record: &Members<'_>, list: &str, member: &str, values: &[&str]) -> bool {
    let list = record.get(list);
    let list = list.and_then(|list| serde_json::from_str::<Vec<Value>>(list.get()).ok());
    let says = |one: &Value| {
        let text = one.get(member).and_then(Value::as_str);
        text.is_none_or(|text| values.iter().any(|value| text.eq_ignore_ascii_case(value)))
    };
    list.is_some_and(|list| !list.is_empty() && !list.iter().any(says))
}

/// The time by which it is remembered that something of a record was sent; none when nobody will ask.
pub fn sent_by(sifts: &[Sift], record: &Members<'_>) -> Option<Option<DateTime<Utc>>> {
    sifts.iter().find_map(|sift| match sift {
        Sift::SaysBeforeSent(_, _, time) | Sift::Remembered(time) => {
            Some(record.text(time).and_then(|text| parse_time(&text)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVED: Sift = Sift::SaysBeforeSent("status", "resolved", "created");

    fn of(sifts: &[Sift], record: &str) -> Verdict {
        verdict(sifts, &Members::of(record.as_bytes()).unwrap())
    }

    #[test]
    fn a_record_goes_on_unless_a_setting_leaves_it_out() {
        let own = Sift::Says("serviceSource", "microsoftSentinel");
        let endpoint = Sift::SaysNot("serviceSource", &["microsoftDefenderForEndpoint"]);
        let exposed = Sift::NotPositive("exposedMachines");
        assert_eq!(
            of(&[own], r#"{"serviceSource":"MicrosoftSentinel"}"#),
            Verdict::Drop
        );
        assert_eq!(of(&[own], r#"{"serviceSource":"x"}"#), Verdict::Keep);
        assert_eq!(of(&[own, RESOLVED], "{}"), Verdict::Keep);
        assert_eq!(of(&[endpoint], "{}"), Verdict::Drop);
        assert_eq!(
            of(
                &[endpoint],
                r#"{"serviceSource":"microsoftDefenderForEndpoint"}"#
            ),
            Verdict::Keep
        );
        assert_eq!(of(&[exposed], r#"{"exposedMachines":0}"#), Verdict::Drop);
        assert_eq!(of(&[exposed], r#"{"exposedMachines":null}"#), Verdict::Drop);
        assert_eq!(of(&[exposed], r#"{"exposedMachines":2}"#), Verdict::Keep);
        assert_eq!(
            of(&[RESOLVED], r#"{"status":"Resolved"}"#),
            Verdict::UnlessSent
        );
        assert_eq!(
            of(
                &[RESOLVED, own],
                r#"{"status":"resolved","serviceSource":"microsoftSentinel"}"#
            ),
            Verdict::Drop
        );
    }

    #[test]
    fn a_list_of_which_nothing_is_wanted_leaves_its_record_out() {
        let wanted = Sift::NoneSays("alerts", "from", &["here", "there"]);
        for (record, verdict) in [
            (
                r#"{"alerts":[{"from":"elsewhere"},{"from":"Here"}]}"#,
                Verdict::Keep,
            ),
            (r#"{"alerts":[{"from":"elsewhere"}]}"#, Verdict::Drop),
            // What is not known is not left out.
            (
                r#"{"alerts":[{"from":"elsewhere"},{"from":null}]}"#,
                Verdict::Keep,
            ),
            (r#"{"alerts":[]}"#, Verdict::Keep),
            (r#"{"alerts":"none"}"#, Verdict::Keep),
            ("{}", Verdict::Keep),
        ] {
            assert_eq!(of(&[wanted], record), verdict, "{record}");
        }
    }

    #[test]
    fn what_was_sent_is_remembered_by_its_time() {
        let record = br#"{"created":"2026-01-01T00:00:00Z"}"#;
        let members = Members::of(record).unwrap();
        assert_eq!(sent_by(&[], &members), None);
        let time = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!(sent_by(&[RESOLVED], &members), Some(time));
        let remembered = Sift::Remembered("created");
        assert_eq!(sent_by(&[remembered], &members), Some(time));
        assert_eq!(verdict(&[remembered], &members), Verdict::Keep);
    }
}
