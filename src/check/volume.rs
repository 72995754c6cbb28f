//! How much a stream will bring a day, from the little that was seen of it.

use chrono::{DateTime, TimeDelta, Utc};

/// What pages of a list held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageStatistics {
    /// Records.
    pub records: u64,
    /// Of these, the ones that no setting leaves out.
    pub rows: u64,
    /// Bytes of their rows as JSON.
    pub bytes: u64,
    /// The earliest and the latest time of a record.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// How much a stream will bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Rows of the first run alone, when it brings more than a day's.
    pub at_first: Option<u64>,
    /// Rows a day.
    pub rows: u64,
    /// Bytes a day, as JSON.
    pub bytes: u64,
    /// Rows and bytes a day if the stream's filter were not there; none without one.
    pub unfiltered: Option<(u64, u64)>,
    /// How it was made.
    pub how: String,
}

/// What is taken for the size of a row when none was seen.
const ROW_BYTES: u64 = 1_500;

const DAY: i64 = 24 * 3600;

fn share(all: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(all) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

impl PageStatistics {
    /// Takes in records, and how many rows of so many bytes became of them.
    pub fn add(&mut self, records: usize, rows: usize, bytes: usize) {
        self.records += records as u64;
        self.rows += rows as u64;
        self.bytes += bytes as u64;
    }

    /// Takes in the earliest and the latest time of some records.
    pub fn cover(&mut self, span: Option<(DateTime<Utc>, DateTime<Utc>)>) {
        self.span = match (self.span, span) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (before, span) => before.or(span),
        };
    }

    /// Bytes of so many rows like these.
    fn bytes_of(&self, rows: u64) -> u64 {
        match self.rows {
            0 => rows.saturating_mul(ROW_BYTES),
            _ => share(rows, self.bytes, self.rows),
        }
    }

    fn size(&self) -> String {
        match self.rows {
            0 => format!("{ROW_BYTES} bytes a row, a guess"),
            rows => format!("the size from {rows} rows"),
        }
    }
}

/// From the last day's list: all of it, or as much as was read.
pub fn of_day(seen: &PageStatistics, whole: bool) -> Estimate {
    let covered = seen
        .span
        .map_or(0, |(first, last)| (last - first).num_seconds());
    let (rows, how) = if whole {
        (seen.rows, "all of the last 24 hours".to_owned())
    } else if (1..DAY).contains(&covered) {
        let day = share(seen.rows, DAY.unsigned_abs(), covered.unsigned_abs());
        let span =
            humantime::format_duration(TimeDelta::seconds(covered).to_std().unwrap_or_default());
        (day, format!("{} records within {span}", seen.records))
    } else {
        (
            seen.rows,
            format!("at least: {} records read", seen.records),
        )
    };
    Estimate {
        at_first: None,
        rows,
        bytes: seen.bytes_of(rows),
        unfiltered: None,
        how,
    }
}

/// From a count of the last day's records, and some of them.
pub fn of_count(count: u64, seen: &PageStatistics) -> Estimate {
    // Settings leave some of them out.
    let rows = match seen.records {
        0 => count,
        records => share(count, seen.rows, records),
    };
    Estimate {
        at_first: None,
        rows,
        bytes: seen.bytes_of(rows),
        unfiltered: None,
        how: format!("counted over 24 hours, {}", seen.size()),
    }
}

/// From how many records there are, of which each is written once in `rewrite` and when it changes.
pub fn of_snapshot(total: &Total, seen: &PageStatistics, rewrite: TimeDelta) -> Estimate {
    let at_first = share(total.guess(), seen.rows, seen.records);
    let rewrite = rewrite.num_seconds().max(DAY).unsigned_abs();
    let rows = share(at_first, DAY.unsigned_abs(), rewrite);
    Estimate {
        at_first: Some(at_first),
        rows,
        bytes: seen.bytes_of(rows),
        unfiltered: None,
        how: format!(
            "{}, each written every {} days; changes come on top",
            total.said(),
            rewrite / DAY.unsigned_abs()
        ),
    }
}

/// How much of a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes of it, as they came.
    pub read: u64,
    /// How many it has; `None` when nobody says so.
    pub length: Option<u64>,
    /// It was read to its end.
    pub whole: bool,
}

impl Part {
    /// How many rows a file has of which this part has so many, and how that was found.
    fn file(&self, rows: u64) -> (u64, String) {
        match self.length.filter(|length| *length > self.read) {
            _ if self.whole => (rows, String::new()),
            Some(length) => {
                let percent = share(100, self.read, length).max(1);
                let how = format!(", of which {percent} % were read");
                (share(rows, length, self.read), how)
            }
            None => (
                rows,
                ", of which the beginning was read: at least".to_owned(),
            ),
        }
    }
}

/// From an export in `files`, which the first run reads, and what has changed in a day since. `seen` is
/// what was read of the first file: no `part`, no file.
pub fn of_export(
    files: u64,
    part: Option<Part>,
    seen: &PageStatistics,
    changes: &Estimate,
) -> Estimate {
    let (each, how) = part.map_or((0, String::new()), |part| part.file(seen.rows));
    let at_first = each.saturating_mul(files);
    let megabytes = seen.bytes_of(at_first).div_ceil(1_000_000);
    Estimate {
        at_first: Some(at_first),
        rows: changes.rows,
        bytes: changes.bytes,
        unfiltered: changes.unfiltered,
        how: format!(
            "a day from changes, {}; the first run ({megabytes} MB) from the first of {files} files{how}",
            changes.how
        ),
    }
}

/// How many records a list has, narrowed down page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    top: u64,
    least: u64,
    most: Option<u64>,
}

impl Total {
    /// Of a list in pages of `top` records, of which nothing is known.
    pub fn of_pages(top: u32) -> Self {
        Self {
            top: u64::from(top),
            least: 0,
            most: None,
        }
    }

    /// How many records to skip next; `None` when the number is known.
    pub fn next(&self) -> Option<u64> {
        let pages = |records: u64| records / self.top * self.top;
        match self.most {
            Some(most) if most <= self.least => None,
            Some(most) => Some(pages(u64::midpoint(self.least, most)).max(self.least)),
            None if self.least == 0 => Some(0),
            // Small lists are the rule.
            None => Some(self.least * 4),
        }
    }

    /// Pages hold no more than this many records, whatever is asked for.
    pub fn clamp(&mut self, count: u64) {
        if count > 0 {
            self.top = self.top.min(count);
        }
    }

    /// Takes in a page behind so many records.
    pub fn see(&mut self, skipped: u64, count: u64) {
        if count >= self.top {
            self.least = self.least.max(skipped + count);
        } else if count > 0 || skipped == 0 {
            (self.least, self.most) = (skipped + count, Some(skipped + count));
        } else {
            self.most = Some(self.most.map_or(skipped, |most| most.min(skipped)));
        }
    }

    fn guess(&self) -> u64 {
        self.most
            .map_or(self.least, |most| u64::midpoint(self.least, most))
    }

    fn said(&self) -> String {
        match self.most {
            Some(most) if most == self.least => format!("{most} records"),
            Some(most) => format!("{} to {most} records", self.least),
            None => format!("at least {} records", self.least),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn seen() -> PageStatistics {
        let mut seen = PageStatistics::default();
        seen.add(1, 1, 900);
        seen.cover(Some((
            at("2026-01-01T06:00:00Z"),
            at("2026-01-01T06:00:00Z"),
        )));
        seen.add(2, 1, 1_100);
        seen.cover(None);
        seen.cover(Some((
            at("2026-01-01T03:00:00Z"),
            at("2026-01-01T03:00:00Z"),
        )));
        seen
    }

    #[test]
    fn a_part_of_a_day_stands_for_the_rest_of_it() {
        let whole = of_day(&seen(), true);
        assert_eq!((whole.rows, whole.bytes), (2, 2_000));
        let part = of_day(&seen(), false);
        assert_eq!((part.rows, part.bytes), (16, 16_000));
        assert_eq!(part.how, "3 records within 3h");
        let mut timeless = PageStatistics::default();
        timeless.add(1, 1, 5);
        assert_eq!(of_day(&timeless, false).how, "at least: 1 records read");
    }

    #[test]
    fn a_count_takes_its_size_from_what_was_seen() {
        // A third of it is left out.
        let estimate = of_count(1_000, &seen());
        assert_eq!((estimate.rows, estimate.bytes), (666, 666_000));
        let blind = of_count(10, &PageStatistics::default());
        assert_eq!(blind.bytes, 15_000);
        assert!(blind.how.contains("a guess"));
    }

    #[test]
    fn a_snapshot_is_written_once_a_week() {
        let mut total = Total::of_pages(10_000);
        total.see(0, 2_100);
        let estimate = of_snapshot(&total, &seen(), TimeDelta::days(7));
        // A third of it is left out.
        assert_eq!((estimate.at_first, estimate.rows), (Some(1_400), 200));
        assert_eq!(estimate.bytes, 200_000);
    }

    #[test]
    fn an_export_is_its_first_file_as_often_as_there_are_files() {
        let changes = of_day(&seen(), true);
        let of = |part| of_export(4, part, &seen(), &changes);
        let part = |read, length, whole| {
            Some(Part {
                read,
                length,
                whole,
            })
        };
        let whole = of(part(900, None, true));
        assert_eq!(
            (whole.at_first, whole.rows, whole.bytes),
            (Some(8), 2, 2_000)
        );
        assert_eq!(
            whole.how,
            "a day from changes, all of the last 24 hours; the first run (1 MB) from the first of 4 files"
        );
        let begun = of(part(900, Some(9_000), false));
        assert_eq!(begun.at_first, Some(80));
        assert!(
            begun.how.ends_with(", of which 10 % were read"),
            "{}",
            begun.how
        );
        let unknown = of(part(900, None, false));
        assert_eq!(unknown.at_first, Some(8));
        assert!(unknown.how.ends_with("at least"), "{}", unknown.how);
        assert_eq!(of(None).at_first, Some(0));
    }

    proptest! {
        #[test]
        fn pages_narrow_a_number_down_and_never_past_it(records in 0u64..3_000_000, top in 1u32..20_000) {
            let mut total = Total::of_pages(top);
            let mut asked = 0;
            while let Some(skip) = total.next() {
                prop_assert_eq!(skip % u64::from(top), 0);
                total.see(skip, records.saturating_sub(skip).min(u64::from(top)));
                prop_assert!(total.least <= records);
                prop_assert!(total.most.is_none_or(|most| most >= records));
                asked += 1;
                prop_assert!(asked < 64, "{:?}", total);
            }
            prop_assert_eq!(total.guess(), records);
        }
    }
}
