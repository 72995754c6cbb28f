//! What was found, and what follows from it, for whoever runs the import.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Resume,
    evidence::{Evidence, Version},
};
use crate::core::position::{cursor::Gap, window::delta};

/// The longest interval of the stock connector's timer, and a little.
const STILL_RUNNING: TimeDelta = TimeDelta::minutes(20);

fn utc(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `72 hours`, rounded up.
fn hours(hours: i64) -> String {
    if hours == 1 {
        "1 hour".to_owned()
    } else {
        format!("{hours} hours")
    }
}

/// What windows of event time can't prove: the stock connector's token would have.
pub(super) fn gap(proven: DateTime<Utc>, from: DateTime<Utc>, now: DateTime<Utc>) -> Gap {
    Gap {
        from: proven,
        to: now.max(proven),
        why: format!(
            "taken over from the stock connector, whose token can't be used: records that occurred \
             since {} are read by window, older ones that were reported in this time may be missing",
            from.format("%Y-%m-%d %H:%M UTC")
        ),
    }
}

pub(super) fn told(
    resume: &Resume,
    used: &[Evidence],
    left_over: &[Evidence],
    lookback: Duration,
    now: DateTime<Utc>,
) -> Vec<String> {
    let mut says: Vec<String> = used.iter().map(found).collect();
    says.extend(left_over.iter().map(|one| {
        let proven = one.proven(now).map_or("an unknown time".to_owned(), utc);
        format!(
            "`{}` is left over from another version and not used; it knew all until {proven}, and \
             what the update to the other one skipped is in neither: `cursor set {} TIME` reads it",
            one.table, resume.stream
        )
    }));
    let spread = resume.repeats_until - resume.proven;
    if used.len() > 1 && spread > delta(lookback).max(TimeDelta::hours(1)) {
        says.push(format!(
            "they are far apart, and the earliest counts, so that nothing is missed; if it belongs \
             to a source that was quiet or switched off, `cursor set {} TIME` with a later time \
             saves the repeats",
            resume.stream
        ));
    }
    if used
        .iter()
        .filter_map(|one| one.saved)
        .any(|saved| now - saved < STILL_RUNNING)
    {
        says.push(
            "it was saved within the last 20 minutes: if the stock connector still runs, stop it, or \
             all that it lands from now on repeats as well"
                .to_owned(),
        );
    }
    if super::are_incidents(&resume.stream) && resume.from <= *super::FIRST_LANDING {
        says.push(
            "the stock connector lands an incident once, as it is created: by the time of their last \
             update all are read from its first landing on, so that those that it left open are closed"
                .to_owned(),
        );
    }
    says.push(format!(
        "goes on from {}, which is {} minus a lookback of {}",
        utc(resume.from),
        utc(resume.proven),
        humantime_text(lookback)
    ));
    let id = if super::are_incidents(&resume.stream) {
        "`uuid`"
    } else {
        "`detectionUuid`"
    };
    says.push(format!(
        "at most {} of what the stock connector landed may repeat ({} to {}); repeats have the same {id}",
        length(resume.repeats_until - resume.from),
        utc(resume.from),
        utc(resume.repeats_until)
    ));
    says
}

/// `72 hours and 5 minutes`: hours alone, rounded up, would be one more than the lookback for a second.
fn length(time: TimeDelta) -> String {
    let minutes =
        time.num_minutes() + i64::from(time.subsec_nanos() > 0 || time.num_seconds() % 60 > 0);
    match (minutes / 60, minutes % 60) {
        (whole, 0) => hours(whole),
        (whole, 1) => format!("{} and 1 minute", hours(whole)),
        (whole, rest) => format!("{} and {rest} minutes", hours(whole)),
    }
}

fn humantime_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 30 * 86_400 {
        format!("{} days", seconds.div_ceil(86_400))
    } else if seconds > 0 && seconds.is_multiple_of(3600) {
        hours(delta(duration).num_hours())
    } else {
        humantime::format_duration(duration).to_string()
    }
}

fn found(one: &Evidence) -> String {
    let version = match one.version {
        Version::UpTo3_2 => "up to 3.2",
        Version::From3_3 => "3.3",
    };
    let saved = one
        .saved
        .map_or(String::new(), |saved| format!(", saved {}", utc(saved)));
    let holds = match (one.time, one.has_token) {
        (Some(time), _) if one.is_ahead() => format!(
            "the time {}, which is later than it was saved, so that the latter counts",
            utc(time)
        ),
        (Some(time), _) => format!("the time {}, which is 1 s after what it read", utc(time)),
        (None, true) => {
            "a delta token, which belongs to a feed of its own and is not used, so that \
                         the time at which it was saved counts"
                .to_owned()
        }
        (None, false) => {
            "nothing that can be read, so that the time at which it was saved counts".to_owned()
        }
    };
    let mut text = format!(
        "`{}` (stock connector {version}{saved}) holds {holds}",
        one.table
    );
    if one.is_between_pages {
        text.push_str("; it was saved between two pages, the rest of which the lookback reads");
    }
    if one.streams.is_empty() {
        text.push_str("; of which source it is, is not known");
    }
    if one.version == Version::UpTo3_2 && one.table.to_ascii_lowercase().ends_with("ei") {
        text.push_str(
            "; it landed groups of detections, each with an id of its own, where single ones land now",
        );
    }
    text
}
