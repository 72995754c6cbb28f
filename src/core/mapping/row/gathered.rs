//! Columns that are filled from all elements of a list.

use serde_json::value::RawValue;

use super::convert::telling;
use crate::core::json::record::JsonObject;

/// The texts at the end of `path`, each once, as a JSON array; `None` when there is none.
pub(super) fn gathered(record: &JsonObject<'_>, path: &[&str]) -> Option<String> {
    let mut values = Vec::new();
    gather(record, path, &mut values);
    let texts = telling(values);
    (!texts.is_empty()).then(|| format!("[{}]", texts.join(",")))
}

fn gather<'a>(members: &JsonObject<'a>, path: &[&str], values: &mut Vec<&'a str>) {
    let Some((name, further)) = path.split_first() else {
        return;
    };
    let Some(value) = members.get(name) else {
        return;
    };
    if further.is_empty() {
        values.push(value.get());
        return;
    }
    let elements: Vec<&'a RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    for element in elements.into_iter().filter_map(JsonObject::of_value) {
        gather(&element, further, values);
    }
}
