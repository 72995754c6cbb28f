//! The form in which `Status` answers.

/// Who asks decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusFormat {
    /// For programs.
    Json,
    /// For people.
    Page,
    /// For monitoring: the numbers alone.
    Prometheus,
}

impl StatusFormat {
    /// The form that `?format=…` names, else the one that the header `Accept` puts first: a page for a
    /// browser, which asks for `text/html`, and JSON for everybody else.
    ///
    /// # Errors
    /// The sentence for whoever names a form that there is not.
    pub(super) fn asked(format: Option<&str>, accept: Option<&str>) -> Result<Self, String> {
        match format {
            Some("json") => Ok(Self::Json),
            Some("html") => Ok(Self::Page),
            Some("prometheus") => Ok(Self::Prometheus),
            Some(_) => {
                Err("there is no such `format`: `json`, `html` and `prometheus` are".to_owned())
            }
            None if accept.is_some_and(prefers_page) => Ok(Self::Page),
            None => Ok(Self::Json),
        }
    }
}

/// True when `text/html` weighs more than `application/json` does, by name or by a pattern.
fn prefers_page(accept: &str) -> bool {
    let html = weight(accept, "text/html");
    html > 0 && html > weight(accept, "application/json")
}

/// Thousandths that a media type weighs in an `Accept`; 0 when it is not named.
fn weight(accept: &str, media_type: &str) -> u32 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next()?.eq_ignore_ascii_case(media_type);
        is_named.then(|| {
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            quality.map_or(1_000, thousandths)
        })
    });
    ranges.max().unwrap_or(0)
}

/// `0.8` in thousandths; what is no such number weighs nothing.
fn thousandths(quality: &str) -> u32 {
    let (whole, part) = quality.split_once('.').unwrap_or((quality, ""));
    match (whole, part.len()) {
        ("0" | "1", 0..=3) => format!("{whole}{part:0<3}")
            .parse()
            .map_or(0, |quality: u32| quality.min(1_000)),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_shown_a_page_and_everybody_else_is_told_json() {
        use StatusFormat::{Json, Page, Prometheus};

        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (format, accept, asked) in [
            (None, None, Json),
            (None, Some("*/*"), Json),
            (None, Some(""), Json),
            (None, Some("application/json"), Json),
            (None, Some(chromium), Page),
            (None, Some("TEXT/HTML"), Page),
            (None, Some("text/html;q=0"), Json),
            (None, Some("text/html;q=é"), Json),
            (None, Some("application/json, text/html;q=0.9"), Json),
            (None, Some("application/json;q=0.5, text/html;q=0.9"), Page),
            (None, Some("application/json, text/html"), Json),
            (Some("json"), Some(chromium), Json),
            (Some("html"), Some("application/json"), Page),
            (Some("prometheus"), Some(chromium), Prometheus),
        ] {
            assert_eq!(
                StatusFormat::asked(format, accept),
                Ok(asked),
                "{format:?} {accept:?}"
            );
        }
        let refused = StatusFormat::asked(Some("<b>"), Some(chromium)).unwrap_err();
        assert_eq!(
            refused,
            "there is no such `format`: `json`, `html` and `prometheus` are"
        );
    }
}
