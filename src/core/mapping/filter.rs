//! Which records a setting leaves out: as data.

use serde_json::Value;

use super::wanted::{Field, Teller, WantedRecords};
use crate::core::json::record::JsonObject;

/// One reason to leave a record out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Its member says this.
    Says(&'static str, &'static str),
    /// Its member names Sentinel, in whichever spelling: it came from there.
    Own(&'static str),
    /// All of the objects in its list do. An empty list says nothing, and neither does one that is not
    /// there.
    AllOwn(&'static str, &'static str),
    /// Its member says something else than one of these.
    SaysNot(&'static str, &'static [&'static str]),
    /// None of the objects in its list says, in that member, one of these. An empty list says
    /// nothing, and neither does one that is not there.
    NoneSays(&'static str, &'static str, &'static [&'static str]),
    /// Its member is no number above zero.
    NotPositive(&'static str),
    /// Its member says this, and nothing of the record was ever sent.
    SaysBeforeSent(&'static str, &'static str),
    /// Its member says this: it closes what may have been sent, and people want it in any case.
    Closes(&'static str, &'static str),
    /// People don't want it by what these members tell, and nothing of the record was ever sent.
    Unwanted(WantedRecords, &'static [(Field, Teller)]),
    /// None is left out, but it is remembered for the incident that the first member names whether
    /// Sentinel raised this alert, which the other member says.
    TellsIncident(&'static str, &'static str),
    /// Sentinel raised all alerts of the incident, as far as that was remembered.
    OwnByAlerts {
        /// The stream that reads alerts.
        alerts: &'static str,
        /// The member that names the incident.
        id: &'static str,
        /// The member that says when it was opened.
        opened: &'static str,
        /// The member that says when it changed last.
        changed: &'static str,
    },
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Keep,
    /// A setting leaves it out.
    Drop,
    /// A setting leaves it out, unless something of it was sent before.
    UnlessSent,
}

/// What becomes of a record under these.
pub fn decide(filters: &[Filter], record: &JsonObject<'_>) -> Decision {
    let text = |member: &str| record.text(member);
    let says = |member: &str, value: &str| {
        text(member).is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    let (mut decision, mut closes) = (Decision::Keep, false);
    for filter in filters {
        match filter {
            Filter::Says(member, value) if says(member, value) => return Decision::Drop,
            Filter::Own(member) if text(member).is_some_and(|text| is_sentinel(&text)) => {
                return Decision::Drop;
            }
            Filter::AllOwn(list, member) if all_own(record, list, member) == Some(true) => {
                return Decision::Drop;
            }
            Filter::SaysNot(member, values) if !values.iter().any(|value| says(member, value)) => {
                return Decision::Drop;
            }
            Filter::NoneSays(list, member, values) if none_says(record, list, member, values) => {
                return Decision::Drop;
            }
            Filter::NotPositive(member)
                if text(member)
                    .and_then(|text| text.parse::<f64>().ok())
                    .is_none_or(|number| number <= 0.0) =>
            {
                return Decision::Drop;
            }
            Filter::SaysBeforeSent(member, value) if says(member, value) => {
                decision = Decision::UnlessSent;
            }
            Filter::Closes(member, value) if says(member, value) => closes = true,
            Filter::Unwanted(wanted, tellers) if !closes && !wanted.has(tellers, record) => {
                decision = Decision::UnlessSent;
            }
            _ => {}
        }
    }
    decision
}

/// True for each name that APIs and tables give Sentinel: `microsoftSentinel`, `Microsoft Sentinel`,
/// `AzureSentinel`.
pub fn is_sentinel(source: &str) -> bool {
    let letters = source.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    matches!(&*plain, "microsoftsentinel" | "azuresentinel" | "sentinel")
}

/// Whether all objects in the list of a record name Sentinel; nothing, when it can't be told.
pub fn all_own(record: &JsonObject<'_>, list: &str, member: &str) -> Option<bool> {
    let list: Vec<Value> = serde_json::from_str(record.get(list)?.get()).ok()?;
    let is_own = |one: &Value| {
        let source = one.get(member).and_then(Value::as_str);
        source.is_some_and(is_sentinel)
    };
    (!list.is_empty()).then(|| list.iter().all(is_own))
}

fn none_says(record: &JsonObject<'_>, list: &str, member: &str, values: &[&str]) -> bool {
    let list = record.get(list);
    let list = list.and_then(|list| serde_json::from_str::<Vec<Value>>(list.get()).ok());
    let says = |one: &Value| {
        let text = one.get(member).and_then(Value::as_str);
        text.is_none_or(|text| values.iter().any(|value| text.eq_ignore_ascii_case(value)))
    };
    list.is_some_and(|list| !list.is_empty() && !list.iter().any(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVED: Filter = Filter::SaysBeforeSent("status", "resolved");

    fn of(filters: &[Filter], record: &str) -> Decision {
        decide(filters, &JsonObject::of(record.as_bytes()).unwrap())
    }

    #[test]
    fn a_record_goes_on_unless_a_setting_leaves_it_out() {
        const OWN: Filter = Filter::Says("serviceSource", "microsoftSentinel");
        const ENDPOINT: Filter =
            Filter::SaysNot("serviceSource", &["microsoftDefenderForEndpoint"]);
        const EXPOSED: Filter = Filter::NotPositive("exposedMachines");
        assert_eq!(
            of(&[OWN], r#"{"serviceSource":"MicrosoftSentinel"}"#),
            Decision::Drop
        );
        assert_eq!(of(&[OWN], r#"{"serviceSource":"x"}"#), Decision::Keep);
        assert_eq!(of(&[OWN, RESOLVED], "{}"), Decision::Keep);
        assert_eq!(of(&[ENDPOINT], "{}"), Decision::Drop);
        assert_eq!(
            of(
                &[ENDPOINT],
                r#"{"serviceSource":"microsoftDefenderForEndpoint"}"#
            ),
            Decision::Keep
        );
        assert_eq!(of(&[EXPOSED], r#"{"exposedMachines":0}"#), Decision::Drop);
        assert_eq!(
            of(&[EXPOSED], r#"{"exposedMachines":null}"#),
            Decision::Drop
        );
        assert_eq!(of(&[EXPOSED], r#"{"exposedMachines":2}"#), Decision::Keep);
        assert_eq!(
            of(&[RESOLVED], r#"{"status":"Resolved"}"#),
            Decision::UnlessSent
        );
        assert_eq!(
            of(
                &[RESOLVED, OWN],
                r#"{"status":"resolved","serviceSource":"microsoftSentinel"}"#
            ),
            Decision::Drop
        );
    }

    #[test]
    fn a_list_of_which_nothing_is_wanted_leaves_its_record_out() {
        const WANTED: Filter = Filter::NoneSays("alerts", "from", &["here", "there"]);
        for (record, decision) in [
            (
                r#"{"alerts":[{"from":"elsewhere"},{"from":"Here"}]}"#,
                Decision::Keep,
            ),
            (r#"{"alerts":[{"from":"elsewhere"}]}"#, Decision::Drop),
            // What is not known is not left out.
            (
                r#"{"alerts":[{"from":"elsewhere"},{"from":null}]}"#,
                Decision::Keep,
            ),
            (r#"{"alerts":[]}"#, Decision::Keep),
            (r#"{"alerts":"none"}"#, Decision::Keep),
            ("{}", Decision::Keep),
        ] {
            assert_eq!(of(&[WANTED], record), decision, "{record}");
        }
    }

    #[test]
    fn what_sentinel_raised_is_known_in_every_spelling() {
        const OWN: Filter = Filter::Own("ServiceSource");
        for source in [
            "Microsoft Sentinel",
            "microsoftSentinel",
            "MicrosoftSentinel",
            "Azure Sentinel",
        ] {
            let record = format!(r#"{{"ServiceSource":"{source}"}}"#);
            assert_eq!(of(&[OWN], &record), Decision::Drop, "{source}");
        }
        for source in ["Microsoft Defender for Endpoint", "", "Microsoft Sentinels"] {
            let record = format!(r#"{{"ServiceSource":"{source}"}}"#);
            assert_eq!(of(&[OWN], &record), Decision::Keep, "{source}");
        }
    }

    #[test]
    fn an_incident_all_of_whose_alerts_sentinel_raised_is_left_out() {
        const OWN: Filter = Filter::AllOwn("alerts", "serviceSource");
        for (record, decision) in [
            (
                r#"{"alerts":[{"serviceSource":"microsoftSentinel"},{"serviceSource":"MicrosoftSentinel"}]}"#,
                Decision::Drop,
            ),
            (
                r#"{"alerts":[{"serviceSource":"microsoftSentinel"},{"serviceSource":"microsoft365Defender"}]}"#,
                Decision::Keep,
            ),
            // What is not known is not left out.
            (
                r#"{"alerts":[{"serviceSource":"microsoftSentinel"},{}]}"#,
                Decision::Keep,
            ),
            (r#"{"alerts":[]}"#, Decision::Keep),
            (r#"{"alerts":"none"}"#, Decision::Keep),
            ("{}", Decision::Keep),
        ] {
            assert_eq!(of(&[OWN], record), decision, "{record}");
        }
    }

    #[test]
    fn what_people_do_not_want_is_left_out_unless_it_closes_what_was_sent() {
        const TELLERS: &[(Field, Teller)] = &[(Field::Severity, Teller::Member("severity"))];
        let filters = [
            Filter::Closes("status", "Fixed"),
            Filter::Unwanted("severity>=high".parse().unwrap(), TELLERS),
        ];
        for (record, decision) in [
            (r#"{"severity":"High","status":"New"}"#, Decision::Keep),
            (r#"{"severity":"Low","status":"New"}"#, Decision::UnlessSent),
            (r#"{"severity":"Low","status":"Fixed"}"#, Decision::Keep),
            ("{}", Decision::Keep),
        ] {
            assert_eq!(of(&filters, record), decision, "{record}");
        }
    }
}
