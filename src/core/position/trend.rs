//! How much a stream brought lately, and how far behind it was: a fixed number of points, which travel
//! in its state, so that they cost no call of their own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

/// A day by the hour, and a week by six hours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trend {
    day: TrendRing<24, 3_600>,
    week: TrendRing<28, 21_600>,
}

/// The last `POINTS` spans of `SECONDS` each, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TrendRing<const POINTS: usize, const SECONDS: i64> {
    /// Which span since 1970 the last point is of.
    span: i64,
    /// One for each span; `None` where nothing ran.
    points: Vec<Option<TrendPoint>>,
}

/// What runs did within a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PointText", into = "PointText")]
pub struct TrendPoint {
    /// Rows that landed, or wait for the sink.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most minutes between the end of a run and the time up to which everything was read; `None`
    /// when nothing ever was.
    pub lag_minutes: Option<u64>,
    /// Runs that failed.
    pub failed: u64,
}

/// A point as text: `[rows, bytes, lagMinutes, failed]`.
type PointText = (u64, u64, Option<u64>, u64);

impl From<PointText> for TrendPoint {
    fn from((rows, bytes, lag_minutes, failed): PointText) -> Self {
        Self {
            rows,
            bytes,
            lag_minutes,
            failed,
        }
    }
}

impl From<TrendPoint> for PointText {
    fn from(point: TrendPoint) -> Self {
        (point.rows, point.bytes, point.lag_minutes, point.failed)
    }
}

impl TrendPoint {
    /// Both together: sums, and the greater lag.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
            lag_minutes: self.lag_minutes.max(other.lag_minutes),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// A span of a trend: when it begins, and what runs did in it.
pub type TrendSpan = (DateTime<Utc>, Option<TrendPoint>);

impl Trend {
    /// Adds what a run did that ended at `now`.
    pub fn add(&mut self, point: TrendPoint, now: DateTime<Utc>) {
        self.day.add(point, now);
        self.week.add(point, now);
    }

    /// The last 24 hours, oldest first.
    pub fn day(&self, now: DateTime<Utc>) -> Vec<TrendSpan> {
        self.day.spans(now)
    }

    /// The last 28 spans of six hours, oldest first.
    pub fn week(&self, now: DateTime<Utc>) -> Vec<TrendSpan> {
        self.week.spans(now)
    }

    /// True before the first run.
    pub fn is_empty(&self) -> bool {
        self.week.points.is_empty()
    }

    /// Reads a trend; one that somebody has damaged is none, as no cursor hangs on it.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = serde_json::Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(text).unwrap_or_default())
    }
}

impl<const POINTS: usize, const SECONDS: i64> TrendRing<POINTS, SECONDS> {
    fn add(&mut self, point: TrendPoint, now: DateTime<Utc>) {
        let span = now.timestamp().div_euclid(SECONDS);
        let ahead = span.saturating_sub(self.span);
        let is_near = usize::try_from(ahead.unsigned_abs()).is_ok_and(|ahead| ahead < POINTS);
        if self.points.is_empty() || !is_near {
            // All that is kept is too old, or of a clock that ran ahead.
            self.points = vec![None];
            self.span = span;
        } else if ahead > 0 {
            let added = usize::try_from(ahead).unwrap_or_default();
            self.points.resize(self.points.len() + added, None);
            self.span = span;
        }
        let over = self.points.len().saturating_sub(POINTS);
        self.points.drain(..over);
        let back = usize::try_from(self.span - span).unwrap_or_default();
        let place = self.points.len().checked_sub(1 + back);
        if let Some(kept) = place.and_then(|place| self.points.get_mut(place)) {
            *kept = Some(kept.unwrap_or_default().and(point));
        }
    }

    fn spans(&self, now: DateTime<Utc>) -> Vec<TrendSpan> {
        let last = now.timestamp().div_euclid(SECONDS);
        let spans = (0..POINTS).rev().filter_map(|back| {
            let span = last - i64::try_from(back).ok()?;
            let begins = DateTime::from_timestamp(span.checked_mul(SECONDS)?, 0)?;
            let back = usize::try_from(self.span.checked_sub(span)?).ok();
            let place = back.and_then(|back| self.points.len().checked_sub(1 + back));
            let point = place.and_then(|place| self.points.get(place));
            Some((begins, point.copied().flatten()))
        });
        spans.collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn point(rows: u64, lag: u64) -> TrendPoint {
        TrendPoint {
            rows,
            bytes: rows * 100,
            lag_minutes: Some(lag),
            failed: 0,
        }
    }

    fn noon() -> DateTime<Utc> {
        "2026-03-02T12:30:00Z".parse().unwrap()
    }

    fn rows(spans: &[TrendSpan]) -> Vec<Option<u64>> {
        let rows = spans.iter().map(|(_, point)| point.map(|point| point.rows));
        rows.collect()
    }

    #[test]
    fn runs_of_an_hour_are_one_point_and_an_hour_without_one_is_told_apart_from_none() {
        let mut trend = Trend::default();
        trend.add(point(3, 5), noon());
        trend.add(point(4, 2), noon() + TimeDelta::minutes(20));
        trend.add(point(0, 1), noon() + TimeDelta::hours(2));
        let day = trend.day(noon() + TimeDelta::hours(2));
        assert_eq!(day.len(), 24);
        assert_eq!(rows(&day[20..]), [None, Some(7), None, Some(0)]);
        assert_eq!(day[21].1.unwrap().lag_minutes, Some(5));
        assert_eq!(day[21].0.to_rfc3339(), "2026-03-02T12:00:00+00:00");
        // Two spans of six hours, and what is older is gone after a week.
        let week = trend.week(noon() + TimeDelta::hours(2));
        assert_eq!(rows(&week[26..]), [None, Some(7)]);
        assert!(
            trend
                .week(noon() + TimeDelta::days(8))
                .iter()
                .all(|it| it.1.is_none())
        );
    }

    #[test]
    fn a_clock_that_ran_ahead_leaves_nothing_behind() {
        let mut trend = Trend::default();
        trend.add(point(9, 0), noon() + TimeDelta::days(400));
        trend.add(point(1, 0), noon());
        assert_eq!(rows(&trend.day(noon())[22..]), [None, Some(1)]);
    }

    #[test]
    fn a_damaged_trend_is_none_and_the_cursor_stays() {
        use crate::core::position::cursor::StreamState;

        for damaged in [
            "7",
            r#"{"day":{"span":1,"points":[[1]]},"week":{}}"#,
            "null",
        ] {
            let text = format!(r#"{{"version":1,"behind":true,"trend":{damaged}}}"#);
            let state: StreamState = serde_json::from_str(&text).unwrap();
            assert!(state.behind && state.trend.is_empty(), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn however_long_it_runs_it_is_bounded_and_read_as_it_was_written(
            steps in prop::collection::vec((-90_000_i64..90_000, any::<u64>()), 1..200),
        ) {
            let (mut trend, mut now) = (Trend::default(), noon());
            for (seconds, rows) in steps {
                now += TimeDelta::seconds(seconds);
                let failed = rows;
                trend.add(TrendPoint { rows, bytes: rows, lag_minutes: Some(rows), failed }, now);
            }
            let text = serde_json::to_string(&trend).unwrap();
            prop_assert!(text.len() < 5_000, "{} bytes", text.len());
            prop_assert_eq!(serde_json::from_str::<Trend>(&text).unwrap(), trend.clone());
            prop_assert_eq!((trend.day(now).len(), trend.week(now).len()), (24, 28));
        }

        /// The damage is somebody else's: whatever number stands there, nothing overflows.
        #[test]
        fn any_span_is_taken(span: i64, rows: u64) {
            let text = format!(r#"{{"span":{span},"points":[[{rows},1,null,0]]}}"#);
            let mut ring: TrendRing<24, 3_600> = serde_json::from_str(&text).unwrap();
            ring.spans(noon());
            ring.add(point(1, 1), noon());
            prop_assert_eq!(ring.spans(noon()).len(), 24);
        }
    }
}
