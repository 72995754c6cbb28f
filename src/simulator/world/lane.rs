//! When things happen. A lane numbers its events by *arrival* (when the service knows them), so
//! that a feed is a range of numbers; the time of the event lies before the arrival, and most of
//! the search for it is arithmetic. Nothing is stored.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::simulator::dice::{Dice, hash};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Events of a day by hour: offices work by day, malware at night too.
const HOURS: [i64; 24] = [
    4, 3, 3, 3, 3, 4, 6, 12, 18, 20, 19, 17, 14, 17, 19, 18, 16, 12, 8, 6, 6, 5, 4, 4,
];
const WEIGHT: i64 = 241;

/// An event is reported this long after it happened, at most…
const PROMPT: i64 = 12 * MINUTE;
/// …but for every 16th, whose device was switched off or off the network.
const LATE_STRIDE: u64 = 16;
/// The longest that a late device keeps its reports.
pub(crate) const LATE: i64 = 60 * HOUR;

/// The finest that a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finest {
    /// With six digits behind the second.
    Micros,
    /// With nine: a protobuf timestamp may have them, and not everybody reads them.
    Nanos,
}

/// A time together with the number of fraction digits it is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) nanos: i64,
    digits: u8,
}

impl Moment {
    /// `nanos` cut to the precision that `bits` choose.
    pub(crate) fn new(nanos: i64, bits: u64, finest: Finest) -> Self {
        let (digits, unit) = match bits % 8 {
            0..=2 => (0, SECOND),
            3 | 4 => (3, 1_000_000),
            5 | 6 => (6, 1_000),
            _ if finest == Finest::Micros => (6, 1_000),
            _ => (9, 1),
        };
        Self {
            nanos: nanos - nanos.rem_euclid(unit),
            digits,
        }
    }

    pub(crate) fn time(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.nanos)
    }

    /// RFC 3339 with 0, 3, 6 or 9 digits, as protobuf writes a timestamp.
    pub(crate) fn text(self) -> String {
        let format = match self.digits {
            0 => SecondsFormat::Secs,
            3 => SecondsFormat::Millis,
            6 => SecondsFormat::Micros,
            _ => SecondsFormat::Nanos,
        };
        self.time().to_rfc3339_opts(format, true)
    }
}

/// Nanoseconds of `time`, cut to what 64 bits hold.
pub(crate) fn nanos(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt()
        .unwrap_or(if time.timestamp() < 0 {
            i64::MIN
        } else {
            i64::MAX
        })
}

/// One sequence of events.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    seed: u64,
    origin: i64,
    interval: i64,
    finest: Finest,
}

impl Lane {
    /// A lane that begins at `origin` (a midnight) with `per_day` events a day.
    pub(crate) fn new(seed: u64, origin: i64, per_day: f64) -> Self {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "an estimate"
        )]
        let interval = (DAY as f64 / per_day.max(0.001)) as i64;
        Self {
            seed,
            origin,
            interval: interval.max(1),
            finest: Finest::Nanos,
        }
    }

    /// The lane with times that are written as `finest` says, at most.
    pub(crate) fn written(self, finest: Finest) -> Self {
        Self { finest, ..self }
    }

    pub(crate) fn finest(&self) -> Finest {
        self.finest
    }

    /// When the service knows the event.
    pub(crate) fn arrival(&self, number: u64) -> i64 {
        let jitter = hash(self.seed, &[1, number]).checked_rem(self.interval.unsigned_abs());
        let even = i64::try_from(number)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.interval)
            .saturating_add(jitter.unwrap_or(0).cast_signed());
        self.origin.saturating_add(by_daytime(even))
    }

    /// How many events the service knows at `now`; equally, the number of the next one.
    pub(crate) fn known(&self, now: i64) -> u64 {
        self.first(|arrival| arrival > now, now)
    }

    /// The first event that arrives at `time` or later.
    pub(crate) fn arriving(&self, time: i64) -> u64 {
        self.first(|arrival| arrival >= time, time)
    }

    fn first(&self, reached: impl Fn(i64) -> bool, near: i64) -> u64 {
        let span = near
            .saturating_sub(self.origin)
            .saturating_add(2 * DAY)
            .max(0);
        let (mut low, mut high) = (0, (span / self.interval).unsigned_abs() + 2);
        while low < high {
            let middle = low + (high - low) / 2;
            if reached(self.arrival(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// When the event happened, as it is written.
    pub(crate) fn occurred(&self, number: u64) -> Moment {
        let mut dice = Dice::new(self.seed, &[2, number]);
        let (low, high) = match (number % LATE_STRIDE == 7, dice.below(100)) {
            (false, 0..=74) => (2 * SECOND, 40 * SECOND),
            (false, _) => (40 * SECOND, PROMPT),
            (true, 0..=69) => (PROMPT, 3 * HOUR),
            (true, 70..=91) => (3 * HOUR, 24 * HOUR),
            (true, _) => (24 * HOUR, LATE),
        };
        let delay = dice
            .range(low.unsigned_abs(), high.unsigned_abs())
            .cast_signed();
        Moment::new(self.arrival(number) - delay, dice.next(), self.finest)
    }

    /// When an event without delay happened, as it is written.
    pub(crate) fn created(&self, number: u64) -> Moment {
        Moment::new(
            self.arrival(number),
            hash(self.seed, &[3, number]),
            self.finest,
        )
    }

    /// The events of `[from, to)` by the time of the event, numbers of `[start, end)` only, in the
    /// order of arrival.
    pub(crate) fn occurring(
        &self,
        from: i64,
        to: i64,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = u64> + use<'_> {
        // Cutting to whole seconds adds up to one second to the delay.
        let prompt = self.known(to.saturating_add(PROMPT + SECOND)).min(end);
        let last = self.known(to.saturating_add(LATE + SECOND)).min(end);
        let start = start.max(self.arriving(from));
        let after = start.max(prompt);
        let late = after + (7 + LATE_STRIDE - after % LATE_STRIDE) % LATE_STRIDE;
        (start..prompt)
            .chain((late..last).step_by(16))
            .filter(move |number| {
                let time = self.occurred(*number).nanos;
                from <= time && time < to
            })
    }
}

/// Bends evenly spread time to the hours of the day; each day keeps its events.
fn by_daytime(even: i64) -> i64 {
    let mut rest = even.rem_euclid(DAY) * WEIGHT;
    let mut time = even - even.rem_euclid(DAY);
    for weight in HOURS {
        if rest < weight * DAY {
            return time + rest / (weight * 24);
        }
        rest -= weight * DAY;
        time += HOUR;
    }
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::new(3, 0, 900.0)
    }

    #[test]
    fn hours_add_up() {
        assert_eq!(HOURS.iter().sum::<i64>(), WEIGHT);
        assert_eq!(by_daytime(DAY), DAY);
        assert!(by_daytime(DAY - 1) < DAY);
    }

    #[test]
    fn arrivals_are_in_order_and_can_be_searched() {
        let lane = lane();
        for number in 0..5000 {
            assert!(lane.arrival(number) <= lane.arrival(number + 1));
            assert_eq!(lane.known(lane.arrival(number)), number + 1);
            assert_eq!(lane.arriving(lane.arrival(number)), number);
        }
        assert_eq!(lane.known(-1), 0);
    }

    #[test]
    fn a_window_finds_what_a_full_scan_finds() {
        let lane = lane();
        let end = lane.known(20 * DAY);
        for (from, to) in [
            (DAY, 2 * DAY),
            (5 * DAY + 1, 5 * DAY + 3 * MINUTE),
            (-DAY, 40 * DAY),
        ] {
            let scan: Vec<u64> = (0..end)
                .filter(|n| (from..to).contains(&lane.occurred(*n).nanos))
                .collect();
            let found: Vec<u64> = lane.occurring(from, to, 0, end).collect();
            assert_eq!(found, scan);
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn a_few_events_are_very_late_and_none_later_than_the_limit() {
        let lane = lane();
        let delays: Vec<i64> = (0..9000)
            .map(|n| lane.arrival(n) - lane.occurred(n).nanos)
            .collect();
        assert!(
            delays
                .iter()
                .all(|delay| (0..=LATE + SECOND).contains(delay))
        );
        let late = delays.iter().filter(|delay| **delay > 24 * HOUR).count();
        assert!((10..200).contains(&late), "{late}");
    }
}
