//! The queue of lanes, where there is one.

use chrono::{DateTime, Utc};

use super::Findings;
use crate::{
    app::{
        App,
        scale_out::{POISON_QUEUE, PULL_QUEUE, QueueStatus},
    },
    error::Result,
};

const WHAT: &str = "queue";

/// How long it is, how old, and which connections have messages that the host has given up.
pub(super) async fn check(app: &App, findings: &mut Findings<'_>) -> Option<QueueStatus> {
    let status = app.queue_status().await?;
    tell(&status, app.parts().clock.now(), findings);
    status.ok()
}

fn tell(status: &Result<QueueStatus>, now: DateTime<Utc>, findings: &mut Findings<'_>) {
    let status = match status {
        Ok(status) => status,
        Err(error) => return findings.bad(WHAT, &format!("{error:#}")),
    };
    let minutes = status.oldest.map(|oldest| (now - oldest).num_minutes());
    match (status.messages, minutes) {
        (0, _) => findings.ok(WHAT, "no lane waits"),
        (messages, Some(minutes)) if status.is_stuck(now) => findings.bad(
            WHAT,
            &format!(
                "{messages} lanes wait in `{PULL_QUEUE}`, the oldest for {minutes} minutes: look whether \
                 the function PullWorker is there, is not disabled and has the extension bundle, and how \
                 many instances the app may have"
            ),
        ),
        (messages, Some(minutes)) => findings.ok(
            WHAT,
            &format!("{messages} lanes wait or are worked on, the oldest waits for {minutes} minutes"),
        ),
        (messages, None) => findings.ok(
            WHAT,
            &format!("{messages} lanes are worked on, or wait to be tried again"),
        ),
    }
    let poison = &status.poison;
    let why = format!(
        "the host has given them up after five tries, since each ended its worker: the log of \
         PullWorker says why; nothing is lost by deleting them in `{POISON_QUEUE}`"
    );
    for (connection, count) in &poison.connections {
        let text = format!("{count} messages of `{connection}`: {why}");
        findings.note("poison messages", &text);
    }
    if poison.unreadable > 0 {
        let text = format!(
            "{} messages that can't be read: somebody else has put them into `{PULL_QUEUE}`; nothing \
             is lost by deleting them in `{POISON_QUEUE}`",
            poison.unreadable
        );
        findings.note("poison messages", &text);
    }
    if poison.messages == 0 {
        findings.ok("poison messages", "none");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;

    use super::*;
    use crate::{app::scale_out::Poison, check::Found, error::Error};

    fn told(status: &Result<QueueStatus>, now: DateTime<Utc>) -> Vec<(Found, String)> {
        let mut told = Vec::new();
        let mut note = |finding: crate::check::Finding| {
            told.push((finding.found, format!("{}: {}", finding.what, finding.text)));
        };
        tell(status, now, &mut Findings(&mut note));
        told
    }

    #[test]
    fn a_queue_is_told_by_length_age_and_the_connections_of_its_poison() {
        let now: DateTime<Utc> = "2026-11-29T05:20:00Z".parse().unwrap();
        let status = |messages, minutes: Option<i64>| QueueStatus {
            messages,
            oldest: minutes.map(|minutes| now - TimeDelta::minutes(minutes)),
            poison: Poison::default(),
        };
        for (status, found, says) in [
            (status(0, None), Found::Ok, "no lane waits"),
            (
                status(7, Some(3)),
                Found::Ok,
                "7 lanes wait or are worked on, the oldest waits for 3",
            ),
            (status(7, None), Found::Ok, "7 lanes are worked on"),
            (
                status(7, Some(15)),
                Found::Bad,
                "the oldest for 15 minutes: look whether",
            ),
        ] {
            let told = told(&Ok(status), now);
            assert_eq!(told.len(), 2, "{told:?}");
            assert_eq!(told[0].0, found, "{told:?}");
            assert!(told[0].1.contains(says), "{told:?}");
            assert_eq!(told[1], (Found::Ok, "poison messages: none".to_owned()));
        }
        let poison = Poison {
            messages: 4,
            connections: BTreeMap::from([("contoso".to_owned(), 2), ("fabrikam".to_owned(), 1)]),
            unreadable: 1,
        };
        let poisoned = QueueStatus {
            poison,
            ..status(0, None)
        };
        let told = told(&Ok(poisoned), now);
        assert_eq!(told.len(), 4, "{told:?}");
        for says in [
            "2 messages of `contoso`",
            "1 messages of `fabrikam`",
            "1 messages that can't",
        ] {
            assert!(
                told.iter()
                    .any(|(found, text)| *found == Found::Note && text.contains(says)),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_queue_that_does_not_answer_is_bad() {
        let error = Error::config("the identity lacks a role");
        let told = told(&Err(error), DateTime::UNIX_EPOCH);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, Found::Bad);
    }
}
