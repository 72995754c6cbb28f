//! Numbers as people read them.

use std::fmt::{self, Display, Formatter};

/// A count, with its thousands apart.
pub(super) struct Count(pub(super) u64);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0 / 1_000, self.0 % 1_000) {
            (0, few) => write!(f, "{few}"),
            (thousands, rest) => write!(f, "{},{rest:03}", Count(thousands)),
        }
    }
}

/// A number of bytes, in the largest unit of which there is a whole one.
pub(super) struct Size(pub(super) u64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit) {
            None => write!(f, "{} B", self.0),
            Some((unit, name)) => {
                let tenths = self.0 / (unit / 10);
                write!(f, "{}.{} {name}", Count(tenths / 10), tenths % 10)
            }
        }
    }
}

/// A number of seconds, in its two largest units at most.
pub(super) struct Lapse(pub(super) i64);

impl Display for Lapse {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0);
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match () {
            () if minutes == 0 => write!(f, "{seconds} s"),
            () if hours == 0 => write!(f, "{minutes} min"),
            () if days == 0 && minutes % 60 == 0 => write!(f, "{hours} h"),
            () if days == 0 => write!(f, "{hours} h {} min", minutes % 60),
            () if hours % 24 == 0 => write!(f, "{days} d"),
            () => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (number, count, size) in [
            (0, "0", "0 B"),
            (999, "999", "999 B"),
            (1_000, "1,000", "1.0 kB"),
            (1_048_576, "1,048,576", "1.0 MB"),
            (999_999_999, "999,999,999", "999.9 MB"),
            (1_234_000_000_000, "1,234,000,000,000", "1,234.0 GB"),
        ] {
            assert_eq!(Count(number).to_string(), count);
            assert_eq!(Size(number).to_string(), size);
        }
        for (seconds, span) in [
            (-5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_600, "1 h"),
            (3_660, "1 h 1 min"),
            (86_400, "1 d"),
            (93_600, "1 d 2 h"),
        ] {
            assert_eq!(Lapse(seconds).to_string(), span);
        }
    }
}
