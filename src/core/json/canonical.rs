//! A hash of what a JSON text says, whatever it looks like.

use xxhash_rust::xxh3::xxh3_64;

use super::scan;

/// A hash of a JSON text that does not depend on white space, on how a string is escaped, or on the
/// order of an object's members. Of what is no JSON, or is nested too deeply, the bytes count.
pub fn canonical_hash(text: &[u8]) -> u64 {
    scan::hash(text).unwrap_or_else(|| xxh3_64(text))
}

#[cfg(test)]
pub(in crate::core) mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn hash(text: &str) -> u64 {
        canonical_hash(text.as_bytes())
    }

    #[test]
    fn the_hash_sees_content_and_not_form() {
        assert_eq!(
            hash(r#"{"a":1,"b":["x/é\n",{}]}"#),
            hash(r#" { "b" : [ "\u0078\/\u00e9\u000A" , { } ] , "\u0061" : 1 } "#)
        );
        let different = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"b":1}"#,
            r#"{"a":{"a":1}}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":null}"#,
            r#"{"a":1.5}"#,
            r#"{"a":-1}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":"\\"}"#,
            "{}",
            "[]",
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[at + 1..] {
                assert_ne!(hash(one), hash(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_json_counts_as_it_is() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [
            "", " ", "{", "{\"a\"}", "[1", "[1;2]", "\"x", "\"x\\", "nul", "1 2", "inf", &deep,
        ] {
            assert_eq!(hash(text), xxh3_64(text.as_bytes()), "{text}");
        }
        // Half a surrogate pair is no text.
        assert_eq!(hash(r#""\ud83d""#), xxh3_64(br#""\ud83d""#));
    }

    #[test]
    fn the_hash_stays_the_same_number() {
        // It is kept as `recordVersion`: another number makes every record a new one.
        let long = format!(
            r#"{{"a":"{}"}}"#,
            r#"C:\\dir\"é\n plain text 日本 "#.repeat(40)
        );
        let texts = [
            "null",
            "7",
            "-7",
            "1.50",
            r#""""#,
            r#""plain""#,
            r#""one\n""#,
            r#""\"12345678\"""#,
            r#""C:\\Program Files\\a\/b\b\f\r\t""#,
            r#""caf\u00e9 \ud83d\ude00 \\""#,
            "[]",
            "{}",
            r#"[1,"a\\",[true,false]]"#,
            r#"{"id":"a","tags":["t"],"inner":{"\u0061":"b\"c","n":18446744073709551615}}"#,
            &long,
            "no json",
        ];
        let hashes: Vec<String> = texts
            .iter()
            .map(|text| format!("{:016x}", hash(text)))
            .collect();
        insta::assert_snapshot!(hashes.join(" "), @"0000000000000001 6f4130d220476f13 594515ae953c7bed 420413ef8e8d8d20 8a8752fbeba01c2a 71da86f1723433d0 28ffc3bad479ae36 3bf4be2370cd82ad 638b83daf0e940ec 93a483e13bc56d10 6246501b5b807308 cacb2ba7abfeec87 96fb7bf387f3e73d a7a9ac75892ecaf4 edc1909855ef9447 6ab6cd7fdaa827cc");
    }

    pub(in crate::core) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            r#"[a-c"\\/\n\u{1}é😀]{0,6}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[a-c"\\é]{0,3}"#, inner, 0..4)
                    .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same value, written as differently as JSON allows.
    pub(in crate::core) fn respelled(value: &Value) -> String {
        let text = |text: &str| -> String {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            format!("\"{}\"", units.collect::<String>())
        };
        match value {
            Value::String(content) => text(content),
            Value::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(respelled).collect();
                format!("[ {} ]", elements.join("\t, "))
            }
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .rev()
                    .map(|(key, value)| format!("{}\n:{}", text(key), respelled(value)))
                    .collect();
                format!("{{\r{}}}", members.join(" ,"))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn any_spelling_has_the_same_hash(value in any_json()) {
            prop_assert_eq!(hash(&value.to_string()), hash(&respelled(&value)));
        }

        #[test]
        fn another_value_has_another_hash(one in any_json(), other in any_json()) {
            prop_assume!(one != other);
            prop_assert_ne!(hash(&one.to_string()), hash(&json!(other).to_string()));
        }

        #[test]
        fn any_bytes_have_a_hash(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            canonical_hash(&bytes);
        }
    }
}
