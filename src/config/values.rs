//! One value: from text to what it means. Errors say what the value must be, as the end of a
//! sentence that begins with the setting's name.

use std::time::Duration;

use crate::core::spelling::nearest;

/// What a value should have been.
pub(super) type Parsed<T> = Result<T, String>;

/// Longer than any stream is kept, and short enough to be taken from a date.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// Any text, as it is.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it stands where a parser is expected"
)]
pub(super) fn text(value: &str) -> Parsed<String> {
    Ok(value.to_owned())
}

/// One of a few words, in any case.
pub(super) fn one_of<T: Copy>(options: &[(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |value| {
        let value = value.to_ascii_lowercase();
        if let Some((_, meant)) = options.iter().find(|(word, _)| *word == value) {
            return Ok(*meant);
        }
        let words: Vec<String> = options
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect();
        let hint = nearest(&value, options.iter().map(|(word, _)| *word))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(format!(
            "is `{value}`; it must be {}{hint}",
            words.join(", ")
        ))
    }
}

/// A list's elements, separated by commas.
pub(super) fn each<T, L: FromIterator<T>>(
    list: &str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Parsed<L> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .map(parse)
        .collect()
}

/// A whole number within limits.
pub(super) fn number(least: u32, most: u32) -> impl Fn(&str) -> Parsed<u32> {
    move |value| {
        value
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!("is `{value}`; it must be a whole number from {least} to {most}")
            })
    }
}

/// `90s`, `15m`, `6h`, `3d`.
pub(super) fn duration(value: &str) -> Parsed<Duration> {
    humantime::parse_duration(value)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| {
            format!("is `{value}`; it must be a duration with a unit, such as `90s`, `15m`, `6h` or `3d`, at most 10 years")
        })
}

/// A duration that is not zero.
pub(super) fn some_duration(value: &str) -> Parsed<Duration> {
    duration(value).and_then(|duration| {
        if duration.is_zero() {
            return Err("must not be zero".to_owned());
        }
        Ok(duration)
    })
}

/// An address without a trailing slash: `https`, or `http` to this machine. Texts never show it,
/// since people do put keys into addresses.
pub(super) fn url(value: &str) -> Parsed<String> {
    let uri: http::Uri = value
        .parse()
        .map_err(|_| "is not a URL; it must look like `https://host/path`".to_owned())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("is not a URL; it must begin with `https://`".to_owned());
    };
    if authority.as_str().contains('@') || uri.query().is_some() || value.contains('#') {
        return Err("must be a plain URL, without user, query or fragment".to_owned());
    }
    match scheme {
        "https" => {}
        "http" if is_loopback(authority.host()) => {}
        "http" => {
            return Err("must begin with `https://`: `http://` would send secrets and data in the clear, and is allowed to this machine only".to_owned());
        }
        _ => return Err("must begin with `https://`".to_owned()),
    }
    Ok(value.trim_end_matches('/').to_owned())
}

/// An `https` URL: what takes it refuses `http`.
pub(super) fn https_url(value: &str) -> Parsed<String> {
    let value = url(value)?;
    if value.to_ascii_lowercase().starts_with("https://") {
        return Ok(value);
    }
    Err("must begin with `https://`".to_owned())
}

/// The platform's own endpoint on the instance may be `http`, at any address.
pub(super) fn platform_url(value: &str) -> Parsed<String> {
    match value.strip_prefix("http://") {
        Some(rest) => url(&format!("https://{rest}")).map(|_| value.to_owned()),
        None => url(value),
    }
}

/// A number of bytes: `500000000`, `500MB`, `2GB`.
pub(super) fn bytes(value: &str) -> Parsed<u64> {
    let end = value.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = value
        .split_at_checked(end.unwrap_or(value.len()))
        .unwrap_or_default();
    let unit = match unit.trim().to_ascii_uppercase().as_str() {
        "" => Some(1),
        "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        // Less than one batch would be no outbox.
        .filter(|bytes| *bytes >= 1_000_000)
        .ok_or_else(|| {
            format!("is `{value}`; it must be a number of bytes, at least a million, such as `500MB` or `2GB`")
        })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A URL in which `{region}` and `{domain}`, and nothing else, are to be filled in.
pub(super) fn url_template(value: &str) -> Parsed<String> {
    let filled = value
        .replace("{region}", "eu")
        .replace("{domain}", "domain");
    if filled.contains(['{', '}']) {
        return Err("may hold `{region}` and `{domain}`, and no other braces".to_owned());
    }
    url(&filled)?;
    Ok(value.trim_end_matches('/').to_owned())
}

/// The flags of the stock connector.
pub(super) fn yes_or_no(value: &str) -> Parsed<bool> {
    one_of(&[
        ("yes", true),
        ("no", false),
        ("true", true),
        ("false", false),
    ])(value)
}

/// True for `<your password>`: what an example holds where a value belongs.
pub(super) fn is_placeholder(value: &str) -> bool {
    value
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|inner| {
            inner
                .chars()
                .all(|c| c.is_ascii_alphabetic() || " -_'.".contains(c))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_only() {
        for good in [
            "https://eu.example.com/",
            "http://localhost:7443/a",
            "http://127.0.0.1",
            "http://[::1]:80",
            "HTTPS://example.com",
        ] {
            assert_eq!(url(good), Ok(good.trim_end_matches('/').to_owned()));
        }
        for bad in [
            "http://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "ftp://example.com",
            "example.com",
            "/path",
            "https://user:canary@example.com",
            "https://example.com?sig=canary",
            "https://example.com/#canary",
            "",
            "https://<your dce>",
        ] {
            let error = url(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_platform_alone_may_speak_http() {
        let endpoint = "http://169.254.129.2:8081/msi/token/";
        assert_eq!(platform_url(endpoint), Ok(endpoint.to_owned()));
        assert!(platform_url("http://169.254.129.2:8081/msi/token?a=b").is_err());
        assert!(platform_url("ftp://169.254.129.2").is_err());
        assert!(https_url("http://localhost:7443").is_err());
        assert!(https_url("https://localhost:7443").is_ok());
    }

    #[test]
    fn bytes_may_have_a_unit() {
        assert_eq!(bytes("1000000"), Ok(1_000_000));
        assert_eq!(bytes("500 mb"), Ok(500_000_000));
        assert_eq!(bytes("2GB"), Ok(2_000_000_000));
        for bad in ["999999", "1GiB", "GB", "-1", "99999999999999GB", ""] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_knows_two_names() {
        assert!(url_template("https://{region}.{domain}.eset.systems/").is_ok());
        assert!(url_template("https://localhost:7443/eset/{region}/{domain}").is_ok());
        assert!(url_template("https://{regoin}.{domain}.eset.systems").is_err());
        assert!(url_template("http://{region}.{domain}.eset.systems").is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("15m"), Ok(Duration::from_mins(15)));
        assert_eq!(duration("3d"), Ok(Duration::from_hours(72)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("90").unwrap_err().contains("unit"));
        assert!(duration("-1s").is_err());
        assert!(duration("11years").is_err());
        assert!(some_duration("0s").is_err());
    }

    #[test]
    fn a_near_word_is_suggested() {
        let region = one_of(&[("eu", 1), ("jpn", 2)]);
        assert_eq!(region("JPN"), Ok(2));
        assert_eq!(
            region("jpm").unwrap_err(),
            "is `jpm`; it must be `eu`, `jpn`; did you mean `jpn`?"
        );
        assert!(number(1, 10)("11").unwrap_err().contains("1 to 10"));
    }

    #[test]
    fn placeholders_are_told_from_passwords() {
        assert!(is_placeholder("<your password>") && is_placeholder("<>"));
        assert!(!is_placeholder("<Xy7$kkl>"));
        assert!(!is_placeholder("a<b>"));
    }
}
