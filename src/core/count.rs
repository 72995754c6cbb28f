//! Counts in words: one place that knows `1 page` from `2 pages`.

/// The noun for so many: `page`, `pages`; `batch`, `batches`; `entry`, `entries`.
pub fn noun(number: u64, one: &str) -> String {
    if number == 1 {
        return one.to_owned();
    }
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if one.ends_with("ch") || one.ends_with('s') || one.ends_with('x') => format!("{one}es"),
        _ => format!("{one}s"),
    }
}

/// A number with its noun: `1 page`, `2,500 rows`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {}", grouped(number), noun(number, one))
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_from_many_and_thousands_are_set_apart() {
        for (number, one, told) in [
            (0, "page", "0 pages"),
            (1, "page", "1 page"),
            (2, "batch", "2 batches"),
            (1, "batch", "1 batch"),
            (3, "entry", "3 entries"),
            (4, "day", "4 days"),
            (999, "row", "999 rows"),
            (1_234_567, "row", "1,234,567 rows"),
        ] {
            assert_eq!(counted(number, one), told);
        }
    }
}
