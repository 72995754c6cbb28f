//! What the Functions host sends: `{"Data":{…},"Metadata":{…}}`.
//!
//! The host puts everything but objects, bytes and dates through its serialiser twice: `abc`
//! arrives as the JSON string `"\"abc\""`, the number 1 as `"1"`, and a queue message, which was
//! JSON to begin with, three layers deep. Its documentation shows one layer, and so do older
//! hosts, so both are understood.

use serde_json::{Map, Value};

/// A message in a message in a string: nothing has more layers.
const MOST_LAYERS: usize = 3;

/// The two parts of the envelope, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The values of the bindings, by name.
    pub data: Value,
    /// What the trigger says about itself.
    pub metadata: Value,
}

impl Envelope {
    /// Reads a body. The error is short and quotes nothing of it.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let whole: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
        let Value::Object(mut whole) = whole else {
            return Err("the body is not a JSON object");
        };
        let Some(Value::Object(data)) = whole.remove("Data") else {
            return Err("the body has no object `Data`");
        };
        let metadata = match whole.remove("Metadata") {
            Some(Value::Object(metadata)) => metadata,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err("`Metadata` is not an object"),
        };
        Ok(Self {
            data: decoded(data),
            metadata: decoded(metadata),
        })
    }
}

fn decoded(values: Map<String, Value>) -> Value {
    values
        .into_iter()
        .map(|(name, value)| (name, unwrapped(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// A value without the layers of encoding around it.
fn unwrapped(mut value: Value) -> Value {
    for _ in 0..MOST_LAYERS {
        let Value::String(text) = &value else { break };
        match serde_json::from_str(text) {
            // A long row of digits is an id; as a number it would lose the last of them.
            Ok(Value::Number(number)) if number.to_string() != text.trim() => break,
            Ok(inner) => value = inner,
            Err(_) => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timer_arrives_as_it_is() {
        let body = br#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"0001-01-01T00:00:00","Next":"2026-11-21T05:20:00+00:00","LastUpdated":"0001-01-01T00:00:00"},"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"EsetTimer","UtcNow":"2026-11-21T05:20:00.004Z","RandGuid":"5f0c"}}}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!(envelope.data["timer"]["IsPastDue"], json!(false));
        assert_eq!(
            envelope.data["timer"]["ScheduleStatus"]["Next"],
            "2026-11-21T05:20:00+00:00"
        );
        assert_eq!(envelope.metadata["sys"]["MethodName"], "EsetTimer");
    }

    #[test]
    fn one_two_and_three_layers_mean_the_same() {
        for body in [
            r#"{"Data":{"message":{"stream":"eset.detections"}}}"#,
            r#"{"Data":{"message":"{\"stream\":\"eset.detections\"}"}}"#,
            r#"{"Data":{"message":"\"{\\\"stream\\\":\\\"eset.detections\\\"}\""}}"#,
        ] {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(
                envelope.data,
                json!({"message": {"stream": "eset.detections"}})
            );
            assert_eq!(envelope.metadata, json!({}));
        }
    }

    #[test]
    fn metadata_of_a_queue_is_decoded_too() {
        let body = br#"{"Data":{"message":"\"abc\""},"Metadata":{"DequeueCount":"1","Id":"\"0f0f-11\"","InsertionTime":"2026-11-21T05:20:00+00:00","PopReceipt":"\"123456789012345678901234567890\"","Flag":"true"}}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!(envelope.data, json!({"message": "abc"}));
        assert_eq!(
            envelope.metadata,
            json!({
                "DequeueCount": 1,
                "Id": "0f0f-11",
                "InsertionTime": "2026-11-21T05:20:00+00:00",
                "PopReceipt": "123456789012345678901234567890",
                "Flag": true,
            })
        );
    }

    #[test]
    fn a_message_is_unwrapped_thrice_at_most() {
        let mut text = "deep".to_owned();
        for _ in 0..4 {
            text = Value::String(text).to_string();
        }
        assert_eq!(unwrapped(Value::String(text)), json!("\"deep\""));
    }

    #[test]
    fn anything_else_is_refused_without_a_quote() {
        for (body, why) in [
            ("", "the body is not JSON"),
            ("canary", "the body is not JSON"),
            ("{\"Data\":{}", "the body is not JSON"),
            ("null", "the body is not a JSON object"),
            ("[]", "the body is not a JSON object"),
            ("{}", "the body has no object `Data`"),
            (r#"{"data":{}}"#, "the body has no object `Data`"),
            (r#"{"Data":"canary"}"#, "the body has no object `Data`"),
            (r#"{"Data":{},"Metadata":1}"#, "`Metadata` is not an object"),
        ] {
            assert_eq!(Envelope::parse(body.as_bytes()).unwrap_err(), why);
        }
    }
}
