//! Functions of templates whose value depends on their arguments alone.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::azure::{array, text};

type Result<T> = std::result::Result<T, String>;

/// The value of `name(values…)`.
pub(super) fn call(name: &str, values: &[Value]) -> Result<Value> {
    let boolean = |value: &Value| {
        value
            .as_bool()
            .ok_or_else(|| format!("{value} where true or false belongs"))
    };
    let texts = || values.iter().map(text).collect::<Result<Vec<String>>>();
    Ok(match name {
        "and" => json!(
            values
                .iter()
                .map(boolean)
                .collect::<Result<Vec<_>>>()?
                .iter()
                .all(|value| *value)
        ),
        "or" => json!(
            values
                .iter()
                .map(boolean)
                .collect::<Result<Vec<_>>>()?
                .iter()
                .any(|value| *value)
        ),
        "not" => json!(!boolean(&values[0])?),
        "equals" => json!(values[0] == values[1]),
        "empty" => json!(length(&values[0])? == 0),
        "length" => json!(length(&values[0])?),
        "null" => Value::Null,
        "false" => json!(false),
        "string" => json!(
            values[0]
                .as_str()
                .map_or_else(|| values[0].to_string(), str::to_owned)
        ),
        "concat" if values[0].is_array() => Value::Array(
            values
                .iter()
                .map(array)
                .collect::<Result<Vec<_>>>()?
                .concat(),
        ),
        "concat" => json!(texts()?.concat()),
        "join" => {
            let items = array(&values[0])?;
            let items = items.iter().map(text).collect::<Result<Vec<_>>>()?;
            json!(items.join(&text(&values[1])?))
        }
        "split" => {
            let parts = text(&values[0])?;
            json!(parts.split(&text(&values[1])?).collect::<Vec<_>>())
        }
        "replace" => json!(text(&values[0])?.replace(&text(&values[1])?, &text(&values[2])?)),
        "toLower" => json!(text(&values[0])?.to_lowercase()),
        "last" => array(&values[0])?.pop().ok_or("the last of nothing")?,
        "createArray" => json!(values),
        "createObject" => {
            let pairs = values
                .chunks(2)
                .map(|pair| Ok((text(&pair[0])?, pair[1].clone())));
            Value::Object(pairs.collect::<Result<Map<_, _>>>()?)
        }
        "union" => {
            let mut all = Map::new();
            for value in values {
                all.extend(
                    value
                        .as_object()
                        .cloned()
                        .ok_or("union of what is no object")?,
                );
            }
            Value::Object(all)
        }
        "uniqueString" => {
            let digits = format!("{:032x}", hash(&texts()?));
            json!(digits.get(..13))
        }
        "guid" => {
            let digits = format!("{:032x}", hash(&texts()?));
            let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
            json!(
                [
                    part(0, 8),
                    part(8, 12),
                    part(12, 16),
                    part(16, 20),
                    part(20, 32)
                ]
                .join("-")
            )
        }
        "environment" => json!({
            "suffixes": { "storage": "core.windows.net", "keyvaultDns": ".vault.azure.net" },
        }),
        // Good enough to tell subnets apart.
        "cidrSubnet" => json!(format!("{}#{}", text(&values[0])?, values[2])),
        _ => return found(name, values),
    })
}

/// The value of the functions that look for something in what they are given.
fn found(name: &str, values: &[Value]) -> Result<Value> {
    Ok(match name {
        "coalesce" => values
            .iter()
            .find(|value| !value.is_null())
            .cloned()
            .unwrap_or_default(),
        "contains" => match &values[0] {
            Value::Array(items) => json!(items.contains(&values[1])),
            Value::Object(members) => json!(members.contains_key(&text(&values[1])?)),
            whole => json!(text(whole)?.contains(&text(&values[1])?)),
        },
        // Azure gives null for what is not there, on whatever step of the way.
        "tryGet" => {
            let names = values[1..].iter().map(text).collect::<Result<Vec<_>>>()?;
            let found = names
                .iter()
                .try_fold(&values[0], |value, name| value.get(name));
            found.cloned().unwrap_or_default()
        }
        "first" => array(&values[0])?.into_iter().next().unwrap_or_default(),
        _ => return Err(format!("`{name}` is not known here")),
    })
}

fn hash(texts: &[String]) -> u128 {
    xxh3_128(texts.join("\n").as_bytes())
}

fn length(value: &Value) -> Result<usize> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(members) => Ok(members.len()),
        _ => Err(format!("the length of {value}")),
    }
}
