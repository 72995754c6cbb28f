//! Times, as sources write them and as columns take them.

use chrono::{DateTime, Datelike, NaiveDateTime, SecondsFormat, Timelike, Utc};

/// A time as the sources write it: RFC 3339 with any offset, up to nine digits of a second, and
/// with the seconds left out.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"))
        .map(|time| time.to_utc())
        // Microsoft's exports leave out that it is UTC.
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|time| time.and_utc())
        })
        .ok()?;
    // A leap second is the next one: no column takes `:60`.
    let time = match time.nanosecond().checked_sub(1_000_000_000) {
        None => time,
        Some(nanos) => DateTime::from_timestamp(time.timestamp() + 1, nanos)?,
    };
    // What a `datetime` column can hold.
    (1..=9999).contains(&time.year()).then_some(time)
}

/// A time as a `datetime` column takes it: 0, 3, 6 or 7 digits of a second, the fewest that show
/// it, since the service counts in steps of 100 ns.
pub fn time_text(time: DateTime<Utc>) -> String {
    let mut text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    // Nine digits are cut to seven.
    if text.len() == "2026-01-01T00:00:00.123456789Z".len() {
        text.replace_range(text.len() - 3.., "Z");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_the_sources_write_them() {
        let text = |text: &str| parse_time(text).map(time_text);
        assert_eq!(
            text("2026-01-01T00:00:00.123456789Z").unwrap(),
            "2026-01-01T00:00:00.1234567Z"
        );
        assert_eq!(
            text("2026-01-01T00:00:00.1Z").unwrap(),
            "2026-01-01T00:00:00.100Z"
        );
        assert_eq!(text("2026-01-01T00:00Z").unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(
            text("2026-01-01T02:00+02:00").unwrap(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(
            text("2016-12-31T23:59:60.5Z").unwrap(),
            "2017-01-01T00:00:00.500Z"
        );
        assert_eq!(text("9999-12-31T23:59:59-01:00"), None);
        assert_eq!(text("0000-01-01T00:00:00Z"), None);
        assert_eq!(text("yesterday"), None);
        assert_eq!(text("2026-01-01"), None);
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_back(seconds in 0i64..4_000_000_000, tick in 0u32..10_000_000) {
            let time = DateTime::from_timestamp(seconds, tick * 100).unwrap();
            prop_assert_eq!(parse_time(&time_text(time)), Some(time));
        }
    }
}
