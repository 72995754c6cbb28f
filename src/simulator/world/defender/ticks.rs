//! Times as .NET writes them: at most seven digits, without zeros at the end.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::simulator::world::lane::nanos;

/// The unit of the service's times.
const TICK: i64 = 100;

/// `time` cut to a precision that `bits` choose.
pub(super) fn cut(time: i64, bits: u64) -> i64 {
    let unit = match bits % 8 {
        0 => 1_000_000_000,
        1 | 2 => 1_000_000,
        _ => TICK,
    };
    time - time.rem_euclid(unit)
}

/// RFC 3339 with up to seven digits.
pub(crate) fn text(time: i64) -> String {
    let text = long(time, 'T');
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

/// RFC 3339 with seven digits, whatever they are.
pub(crate) fn exact(time: i64) -> String {
    long(time, 'T') + "Z"
}

/// RFC 3339 without fraction or zone, with a blank in the middle, as vulnerability management
/// writes UTC.
pub(super) fn bare(time: i64) -> String {
    long(time, ' ').get(..19).unwrap_or_default().to_owned()
}

/// The same with seven digits.
pub(super) fn bare_exact(time: i64) -> String {
    long(time, ' ')
}

fn long(time: i64, middle: char) -> String {
    let text = DateTime::from_timestamp_nanos(time).to_rfc3339_opts(SecondsFormat::Nanos, false);
    let text = text.get(..27).unwrap_or_default();
    text.replacen('T', &middle.to_string(), 1)
}

/// Any RFC 3339 time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(nanos(time.with_timezone(&Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_end_where_the_zeros_begin() {
        let time = parse("2026-03-04T10:00:00.1234567Z").unwrap();
        assert_eq!(text(time), "2026-03-04T10:00:00.1234567Z");
        assert_eq!(text(cut(time, 1)), "2026-03-04T10:00:00.123Z");
        assert_eq!(text(cut(time, 0)), "2026-03-04T10:00:00Z");
        assert_eq!(bare(time), "2026-03-04 10:00:00");
        assert_eq!(bare_exact(time), "2026-03-04 10:00:00.1234567");
        assert_eq!(parse(&text(time)), Some(time));
        assert_eq!(parse("2026-03-04"), None);
    }
}
