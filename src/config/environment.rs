//! Where settings come from: the process, and `local.settings.json` on a laptop.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde_json::Value;

use crate::error::{Error, Result};

/// The settings as text, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    values: BTreeMap<String, String>,
    listed: Option<ListText>,
}

/// What was found where `CONNECTIONS` points.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ListText {
    /// The list, or what is wrong with it.
    pub(super) text: std::result::Result<String, String>,
    /// Why it is the list of before.
    pub(super) stale: Option<String>,
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self {
            values: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            listed: None,
        }
    }
}

impl Environment {
    /// The variables of this process. Those that aren't UTF-8 can't be ours.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub fn from_process() -> Self {
        // Not `vars`: it panics on a variable of somebody else that is not UTF-8.
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Adds the `Values` of a `local.settings.json`. What the environment has already, wins, as it
    /// does under the Functions host.
    pub fn with_local_settings(mut self, path: &Path) -> Result<Self> {
        let file = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| Error::config(format!("`{file}` can't be read: {error}")))?;
        // Editors on Windows like to begin a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        // Parsed without types first: a syntax error names a place, a type error would quote a value.
        let whole: Value = serde_json::from_str(text).map_err(|error| {
            Error::config(format!(
                "`{file}` is not JSON: {error}; comments and trailing commas are not allowed"
            ))
        })?;
        if whole.get("IsEncrypted") == Some(&Value::Bool(true)) {
            return Err(Error::config(format!(
                "`{file}` is encrypted: run `func settings decrypt` first"
            )));
        }
        let values = whole
            .get("Values")
            .and_then(Value::as_object)
            .ok_or_else(|| Error::config(format!("`{file}` has no object `Values`")))?;
        for (name, value) in values {
            let text = scalar_text(value).ok_or_else(|| {
                Error::config(format!(
                    "`{name}` in `{file}` must be a text, a number, true or false"
                ))
            })?;
            self.values.entry(name.clone()).or_insert(text);
        }
        Ok(self)
    }

    /// The environment with further values, which win.
    #[must_use]
    pub fn with_values(&self, values: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut with = self.clone();
        with.values.extend(values);
        with
    }

    /// A value. An empty one counts as absent: the portal can't express the difference.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        (!value.trim().is_empty()).then_some(value.as_str())
    }

    /// The environment with a list without connections, where what it names is not read.
    #[must_use]
    pub fn without_connections(&self) -> Self {
        self.with_connections(Ok("[]".to_owned()), None)
    }

    /// The same with the list that `CONNECTIONS` names, or with what is wrong with it; `stale` says why
    /// it is the one of before.
    #[must_use]
    pub fn with_connections(&self, text: Result<String>, stale: Option<&Error>) -> Self {
        Self {
            values: self.values.clone(),
            listed: Some(ListText {
                text: text.map_err(|error| {
                    let text = error.to_string();
                    let rest = text.strip_prefix("`CONNECTIONS` ").map(str::to_owned);
                    rest.unwrap_or(text)
                }),
                stale: stale.map(ToString::to_string),
            }),
        }
    }

    /// What was found where `CONNECTIONS` points, once somebody has looked.
    pub(super) fn listed(&self) -> Option<&ListText> {
        self.listed.as_ref()
    }

    /// All names, also of variables that are not ours.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// True on an instance of App Service or Azure Functions, where files don't last.
    pub fn in_azure(&self) -> bool {
        self.get("WEBSITE_INSTANCE_ID").is_some() || self.get("WEBSITE_SITE_NAME").is_some()
    }

    /// The port that the Functions host waits on. Not a part of the settings, so that `serve` can
    /// answer the host even when they are wrong, and say what is wrong with them.
    pub fn host_port(&self) -> Result<u16> {
        const NAME: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
        let text = self.get(NAME).ok_or_else(|| {
            Error::config(format!(
                "`{NAME}` is not set: `serve` is started by the Functions host (`func start`); \
                 to start it by hand, set the variable to a free port"
            ))
        })?;
        text.trim()
            .parse()
            .map_err(|_| Error::config(format!("`{NAME}` is `{text}`, which is not a port")))
    }
}

/// A JSON scalar as the text that a setting would hold.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> Result<Environment> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.settings.json");
        fs::write(&path, text).unwrap();
        Environment::from_iter([("BOTH", "environment")]).with_local_settings(&path)
    }

    #[test]
    fn the_environment_wins_over_local_settings() {
        let text =
            "\u{feff}{\"Values\":{\"BOTH\":\"file\",\"TEXT\":\"a\",\"NUMBER\":9,\"FLAG\":true}}";
        let environment = local(text).unwrap();
        assert_eq!(environment.get("BOTH"), Some("environment"));
        assert_eq!(environment.get("TEXT"), Some("a"));
        assert_eq!(environment.get("NUMBER"), Some("9"));
        assert_eq!(environment.get("FLAG"), Some("true"));
    }

    #[test]
    fn a_bad_file_is_named_with_the_line_and_without_values() {
        let text = "{\n \"Values\": {\n  \"ESET_PASSWORD\": \"canary\",\n }\n}";
        let error = local(text).unwrap_err().to_string();
        assert!(
            error.contains("local.settings.json") && error.contains("line 4"),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");

        let error = local(r#"{"Values":{"A":["canary"]}}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`A` in") && !error.contains("canary"),
            "{error}"
        );
        let error = local(r#"{"Values":"canary"}"#).unwrap_err().to_string();
        assert!(error.contains("no object `Values`"), "{error}");
        let error = local(r#"{"IsEncrypted":true,"Values":{}}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("func settings decrypt"), "{error}");

        let missing = Environment::default().with_local_settings(Path::new("/no/such/file"));
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("`/no/such/file` can't be read")
        );
    }

    #[test]
    fn an_empty_value_is_absent() {
        let environment = Environment::from_iter([("EMPTY", ""), ("BLANK", "  "), ("SET", " a")]);
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get("BLANK"), None);
        assert_eq!(environment.get("SET"), Some(" a"));
    }

    #[test]
    fn its_debug_shows_names_only() {
        let environment = Environment::from_iter([("ESET_PASSWORD", "canary")]);
        assert_eq!(format!("{environment:?}"), r#"{"ESET_PASSWORD"}"#);
    }

    #[test]
    fn a_missing_port_says_who_sets_it() {
        let error = Environment::default().host_port().unwrap_err().to_string();
        assert!(error.contains("Functions host"), "{error}");
        let port =
            |text| Environment::from_iter([("FUNCTIONS_CUSTOMHANDLER_PORT", text)]).host_port();
        assert_eq!(port("7071"), Ok(7071));
        assert!(
            port("seventy")
                .unwrap_err()
                .to_string()
                .contains("not a port")
        );
    }

    #[test]
    fn the_process_has_an_environment() {
        assert!(Environment::from_process().names().next().is_some());
    }
}
