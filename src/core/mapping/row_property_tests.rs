//! Any record of any stream against the promise of its row.

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Map, Value, json};

use super::{super::*, NOW, at, checked_in, row_in};
use crate::{
    core::{
        json::chunk::Chunk,
        mapping::{
            from_list::{FillWith, FromList},
            rule::{As, To},
        },
        position::record_key::{KeyRule, MetaIndex, MetaReader, capitalised},
    },
    source::{
        defender::{ENDPOINTS, hunting},
        eset::STREAMS,
    },
};

/// Without members that are null or empty, at any depth.
pub(super) fn pruned(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, pruned(value)))
            .filter(|(_, value)| {
                !matches!(value, Value::Null)
                    && *value != json!("")
                    && *value != json!([])
                    && *value != json!({})
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(elements) => elements.into_iter().map(pruned).collect(),
        other => other,
    }
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        r#"[a-zA-Z0-9é😀"\\/\n\u{0}\u{7f}{}:,_@ -]{0,14}"#,
        select(vec![
            "",
            " ",
            "0",
            "007",
            "nil",
            "None",
            "C:\\a\\b.exe",
            "b.exe",
            "+5",
            "-1",
            "12",
            "2147483647",
            "2147483648",
            "1.5",
            "true",
            "null",
            "2026-03-05T11:00:00Z",
            "2026-03-05T11:00:00.1234567Z",
            "2026-03-05T11:00:00.123456789Z",
            "2026-03-05T11:00:00.120Z",
            "2026-03-05T13:00+02:00",
            "2026-03-05 11:00:00",
            "2026-03-05 11:00:00.1234567",
            "2026-03-05 11:00:00.1234500",
            "2016-12-31T23:59:60Z",
            "9999-12-31T23:59:59-01:00",
            "SEVERITY_LEVEL_UNSPECIFIED",
        ])
        .prop_map(str::to_owned),
    ]
    .prop_map(Value::from)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-200i64..200).prop_map(Value::from),
        (-1e6..1e6).prop_map(Value::from),
        select(vec![json!(5.0), json!(1e300), json!(u64::MAX), json!(-0.0)]),
        text(),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(any_name(), inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

/// Names that could be mistaken for something, and others.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "uuid",
            "deviceUuid",
            "userName",
            "context",
            "device",
            "process",
            "path",
            "displayName",
            "circumstances",
            "protocolName",
            "protocolKeyword",
            "networkCommunication",
            "groupSize",
            "additionalFields",
            "truncatedFields",
            "batchId",
            "TimeGenerated",
            "eventTime",
            "recordId",
            "deviceDisplayName",
            "@from",
            "@details",
            "@@from",
            "@odata.type",
            "_x",
            "",
            "a b",
            "ü\"\\",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,3}",
    ]
}

/// A value of the type that the API documents for the member.
fn documented(how: As) -> BoxedStrategy<Value> {
    match how {
        As::Verbatim
        | As::Account(_)
        | As::Path(_)
        | As::Text
        | As::Name
        | As::Time
        | As::BareTime
        | As::Is(_) => text().boxed(),
        As::Member(_) => prop_oneof![text(), anything()].boxed(),
        As::Real => (-1e6..1e6).prop_map(Value::from).boxed(),
        As::NumberText | As::Integer | As::Long => any::<u8>().prop_map(Value::from).boxed(),
        As::TextInteger => any::<u32>().prop_map(|n| n.to_string().into()).boxed(),
        As::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        As::Texts(_) => prop_oneof![
            4 => prop::collection::vec(text(), 0..4).prop_map(Value::from),
            1 => anything(),
        ]
        .boxed(),
        As::Json | As::Inside(_) => anything().boxed(),
        As::Renamed(names) => {
            let known = names
                .iter()
                .map(|(theirs, _)| (*theirs).to_owned())
                .collect::<Vec<_>>();
            prop::collection::btree_map(prop_oneof![select(known), any_name()], anything(), 0..4)
                .prop_map(|map| json!(map))
                .boxed()
        }
    }
}

/// Records of an endpoint: each member that it knows, of the right type, of any other, or not there;
/// and members that it does not know.
fn records(rules: &'static [Rule]) -> BoxedStrategy<Map<String, Value>> {
    let known: Vec<_> = rules
        .iter()
        .map(|rule| {
            let right = match rule.to {
                To::Column(_, how) => documented(how),
                To::JsonObject { rules, .. } => records(rules).prop_map(Value::from).boxed(),
            };
            let value = prop_oneof![
                6 => right.prop_map(Some),
                1 => anything().prop_map(Some),
                2 => Just(None),
            ];
            value.prop_map(|value| (rule.member.to_owned(), value))
        })
        .collect();
    let unknown = prop::collection::vec((any_name(), anything().prop_map(Some)), 0..3);
    (unknown, known)
        .prop_map(|(unknown, known)| {
            let members = unknown.into_iter().chain(known);
            members
                .filter_map(|(key, value)| Some((key, value?)))
                .collect()
        })
        .boxed()
}

/// A value at a path of an element.
fn put(element: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        None => element[path] = value,
        Some((outer, inner)) => {
            if !element[outer].is_object() {
                element[outer] = json!({});
            }
            put(&mut element[outer], inner, value);
        }
    }
}

/// A list with elements of each kind that something is picked from, more than once, and of others.
fn elements(picks: FromList) -> BoxedStrategy<Value> {
    let kinds: Vec<_> = picks.things.iter().flat_map(|kinds| kinds.iter()).collect();
    let element = select(kinds).prop_flat_map(move |kind| {
        let paths = kind.fills.iter().flat_map(|fill| match fill.with {
            FillWith::Text(paths) => paths.iter().map(|path| (*path).to_owned()).collect(),
            FillWith::Integer(path) | FillWith::Remote(path) | FillWith::First(path) => {
                vec![path.to_owned()]
            }
            FillWith::File(path) => ["filePath", "fileName"]
                .map(|name| format!("{path}.{name}"))
                .into(),
            FillWith::Account(path) => ["userPrincipalName", "domainName", "accountName"]
                .map(|name| format!("{path}.{name}"))
                .into(),
            FillWith::Always(_) => Vec::new(),
        });
        let paths: Vec<String> = paths.collect();
        let spelt = select(vec!["", "#microsoft.graph.security.", "x"]);
        let value = prop_oneof![
            4 => text(),
            1 => Just(json!("203.0.113.9")),
            1 => Just(json!(["https://example.org/x", "https://example.org/y"])),
            1 => (0..9_000_000_000u64).prop_map(Value::from),
            1 => anything(),
        ];
        let values = prop::collection::vec(prop::option::of(value), paths.len());
        (spelt, values).prop_map(move |(spelt, values)| {
            let mut element = json!({ picks.kind: format!("{spelt}{}", kind.name) });
            for (path, value) in paths.iter().zip(values) {
                if let Some(value) = value {
                    put(&mut element, path.trim_start_matches('.'), value);
                }
            }
            element
        })
    });
    let element = prop_oneof![6 => element, 1 => anything()];
    prop::collection::vec(element, 0..8)
        .prop_map(Value::from)
        .boxed()
}

/// Lists within lists, at the end of which there are texts, most of the time.
fn nested(path: &'static [&'static str]) -> BoxedStrategy<Value> {
    let Some((name, further)) = path.split_first() else {
        return prop_oneof![3 => text(), 1 => anything()].boxed();
    };
    let element = nested(further).prop_map(move |value| json!({ *name: value }));
    let element = prop_oneof![4 => element, 1 => anything()];
    prop::collection::vec(element, 0..4)
        .prop_map(Value::from)
        .boxed()
}

/// Records of a layout, whose lists hold what is picked from them.
fn records_of(layout: &Layout) -> BoxedStrategy<Map<String, Value>> {
    let mut plain = records(layout.rules);
    for gather in layout.collect {
        let (list, further) = gather.path.split_first().unwrap();
        plain = (plain, prop::option::of(nested(further)))
            .prop_map(move |(mut record, value)| {
                record.extend(value.map(|value| ((*list).to_owned(), value)));
                record
            })
            .boxed();
    }
    let Some(picks) = layout.from_list else {
        return plain;
    };
    (plain, prop::option::of(elements(picks)))
        .prop_map(move |(mut record, list)| {
            record.extend(list.map(|list| (picks.list.to_owned(), list)));
            record
        })
        .boxed()
}

/// Each stream, in the shared tables and in tables of its own.
fn forms() -> Vec<(&'static Endpoint, Layout)> {
    let tables = hunting::tables().iter().map(|table| &table.endpoint);
    let streams = STREAMS.into_iter().chain(ENDPOINTS).chain(tables);
    streams
        .flat_map(|endpoint| {
            [Layout::shared(endpoint), Layout::own(endpoint)].map(|layout| (endpoint, layout))
        })
        .collect()
}

type Case = (
    &'static Endpoint,
    Layout,
    String,
    Option<String>,
    Option<String>,
);

/// Any endpoint with a record of it, in some form of its text, and what was looked up.
fn cases() -> impl Strategy<Value = Case> {
    let streams = select(forms()).prop_flat_map(|(endpoint, layout)| {
        (records_of(&layout), records(layout.details))
            .prop_map(move |(record, details)| ((endpoint, layout), record, details))
    });
    let looked = (any::<bool>(), prop::option::of(Just("ws-17".to_owned())));
    (streams, 0..3, looked).prop_map(
        |(((endpoint, layout), record, details), form, (has_details, device))| {
            let record = Value::from(record);
            let record = match form {
                0 => record.to_string(),
                1 => serde_json::to_string_pretty(&record).unwrap(),
                _ => record
                    .to_string()
                    .replace('é', "\\u00e9")
                    .replace('/', "\\/"),
            };
            (
                endpoint,
                layout,
                record,
                has_details.then(|| Value::from(details).to_string()),
                device,
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_record_can_be_rebuilt_from_its_row((endpoint, layout, record, details, device) in cases()) {
        let shape = details.as_deref().map(|text| JsonObject::of(text.as_bytes()).unwrap());
        let looked = Enriched {
            details: shape.as_ref(),
            device_name: device.as_deref(),
        };
        let row = row_in(endpoint, &layout, &record, looked, false);
        let columns = checked_in(&layout, &row);
        prop_assert!(!row.shortened);
        let members = JsonObject::of(record.as_bytes()).unwrap();
        let RecordMeta { id, .. } = RecordMeta::of(&members, &endpoint.identity);
        prop_assert_eq!(columns.get("recordId"), Some(&id.into()), "in {}", record);
        let restored = restore(&columns, layout.rules);
        let record: Value = serde_json::from_str(&record).unwrap();
        prop_assert_eq!(pruned(restored), pruned(record), "from {}", Value::from(columns));
    }

    #[test]
    fn no_member_is_held_twice_that_a_column_holds((endpoint, layout, record, _, _) in cases()) {
        let row = row_in(endpoint, &layout, &record, Enriched::default(), false);
        let mut columns = checked_in(&layout, &row);
        let whole = restore(&columns, layout.rules);
        let Some(Value::Object(rest)) = columns.get("additionalFields").cloned() else {
            return Ok(());
        };
        // What fills a column inexactly is named even where the usual member is there as well.
        for key in rest.keys().filter(|key| *key != FROM) {
            let mut less = rest.clone();
            less.remove(key);
            columns.insert("additionalFields".to_owned(), less.into());
            prop_assert_ne!(&restore(&columns, layout.rules), &whole, "{} is there twice", key);
        }
    }
}

/// Any endpoint with some records of it, each with what was looked up.
fn several() -> impl Strategy<Value = (&'static Endpoint, Layout, Vec<(Value, Option<Value>)>)> {
    select(forms()).prop_flat_map(|(endpoint, layout)| {
        let record = records_of(&layout).prop_map(Value::from);
        let details = prop::option::of(records(layout.details).prop_map(Value::from));
        let records = prop::collection::vec((record, details), 1..5);
        records.prop_map(move |records| (endpoint, layout, records))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_written_before_changes_no_row(
        (endpoint, layout, records) in several(),
        order in prop::collection::vec(
            (any::<Index>(), prop::option::of((any::<Index>(), anything())), any::<bool>()),
            1..20,
        ),
    ) {
        let source = RowSource::new(endpoint, &layout, "default", false);
        let identifier = MetaReader::new(&endpoint.identity);
        let (mut draft, mut facts) = (Draft::default(), RecordMeta::default());
        let (mut places, now) = (MetaIndex::default(), at(NOW));
        let records = order.iter().map(|(next, change, spaced)| {
            let (mut record, details) = next.get(&records).clone();
            // The same names say something else.
            let mut values = record.as_object_mut().unwrap().values_mut();
            if let Some((at, value)) = change.as_ref().filter(|_| values.len() > 0) {
                value.clone_into(values.nth(at.index(values.len())).unwrap());
            }
            // Wherever that is, it is JSON.
            let comma = if *spaced { " ,\"" } else { ",\"" };
            let record = record.to_string().replace(",\"", comma);
            (record, details.map(|details| details.to_string()))
        });
        let (records, details): (Vec<_>, Vec<_>) = records.unzip();
        let chunk = Chunk::of(&records);
        for (at, (record, details)) in records.iter().zip(&details).enumerate() {
            let members = chunk.members(at).unwrap();
            let alone = JsonObject::of(record.as_bytes()).unwrap();
            let shape = details.as_deref().map(|text| JsonObject::of(text.as_bytes()).unwrap());
            let looked = Enriched {
                details: shape.as_ref(),
                device_name: None,
            };
            identifier.find(&members, &mut places, &mut facts);
            prop_assert_eq!(&facts, &RecordMeta::of(&alone, &endpoint.identity));
            source.write(&members, &facts, looked, now, &mut draft);
            let row = source.row(&alone, &facts, looked, now);
            prop_assert_eq!(&draft.json, &String::from_utf8(row.json).unwrap());
        }
    }
}

/// Rows of hunting as they come, one behind the other: those that a template writes and those that it
/// gives up on are the ones that are written alone.
#[cfg(feature = "simulator")]
#[test]
fn rows_of_every_table_of_hunting_are_the_same_by_template_and_member_by_member() {
    let now = at(NOW);
    let world = crate::simulator::World::new(7, now, 1.0);
    let from = now - chrono::TimeDelta::minutes(90);
    for table in hunting::tables() {
        let endpoint = &table.endpoint;
        let rows = (world.defender()).hunting_rows(table.name, true, from, now, now);
        let rows: Vec<String> = rows.map(|row| row.to_string()).collect();
        assert!(rows.len() > 5, "{}", table.name);
        // Each comes twice, so that each form is met again.
        let chunk = Chunk::of(&[rows.clone(), rows.clone()].concat());
        for layout in [Layout::shared(endpoint), Layout::own(endpoint)] {
            let source = RowSource::new(endpoint, &layout, "default", false);
            let mut draft = Draft::default();
            for (place, row) in rows.iter().chain(&rows).enumerate() {
                let members = chunk.members(place).unwrap();
                let alone = JsonObject::of(row.as_bytes()).unwrap();
                let facts = RecordMeta::of(&alone, &endpoint.identity);
                source.write(&members, &facts, Enriched::default(), now, &mut draft);
                let slow = source.row(&alone, &facts, Enriched::default(), now);
                let slow = String::from_utf8(slow.json).unwrap();
                assert_eq!(draft.json, slow, "{} of {}", row, table.name);
            }
        }
    }
}

#[test]
fn only_what_names_a_record_alone_fills_the_column_for_it() {
    let by_member = |endpoint: &&'static Endpoint| usually_fill(endpoint.rules, RECORD_ID);
    let streams = STREAMS.iter().chain(&ENDPOINTS).copied().filter(by_member);
    let named: Vec<&str> = streams
        .map(|endpoint| {
            let KeyRule { id, also, .. } = endpoint.identity;
            let rules = endpoint.rules.iter();
            let fills = |rule: &&Rule| matches!(rule.to, To::Column(RECORD_ID, As::Name));
            let members: Vec<&str> = rules.filter(fills).map(|rule| rule.member).collect();
            let capital = capitalised(id);
            let spellings = [id, &capital];
            let count = if endpoint.identity.capitals { 2 } else { 1 };
            assert_eq!(members, spellings[..count], "{}", endpoint.stream);
            assert!(also.is_empty(), "{}", endpoint.stream);
            endpoint.stream
        })
        .collect();
    assert_eq!(
        named,
        [
            "defender.vulnerabilities",
            "defender.software-vulnerabilities"
        ]
    );
}
