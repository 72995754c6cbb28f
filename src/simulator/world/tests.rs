//! What the world promises.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::Map;

use super::*;

fn start() -> DateTime<Utc> {
    "2026-03-04T10:00:00Z".parse().unwrap()
}

fn world(seed: u64) -> World {
    World::new(seed, start(), 1.0)
}

#[test]
fn a_seed_is_a_world() {
    let (one, same, other) = (world(1), world(1), world(2));
    for product in Product::ALL {
        for number in 0..50 {
            assert_eq!(
                one.detection_v1(product, number),
                same.detection_v1(product, number)
            );
            assert_eq!(
                one.detection_v2(product, number),
                same.detection_v2(product, number)
            );
            assert_ne!(
                one.detection_v2(product, number),
                other.detection_v2(product, number)
            );
        }
    }
    let history = start() - TimeDelta::days(7);
    assert_eq!(
        one.incident_versions(history, start()),
        same.incident_versions(history, start())
    );
    assert!(one.incident_versions(history, start()).len() > 100);
}

#[test]
fn a_day_has_the_promised_number_of_detections() {
    let world = world(5);
    for (product, low, high) in [
        (Product::Protect, 800, 1000),
        (Product::Inspect, 300, 400),
        (Product::CloudOffice, 220, 280),
    ] {
        let count = world
            .arrivals(product, start() - TimeDelta::days(1), start())
            .len();
        assert!((low..high).contains(&count), "{product:?} {count}");
    }
}

#[test]
fn sizes_have_a_long_tail() {
    let world = world(5);
    let mut sizes: Vec<usize> = (0..3000)
        .map(|number| {
            world
                .detection_v2(Product::Protect, number)
                .to_string()
                .len()
        })
        .collect();
    sizes.sort_unstable();
    assert!((1200..2600).contains(&sizes[1500]), "{}", sizes[1500]);
    assert!(
        sizes[2950] > 10_000 && sizes[2999] > 66_000,
        "{} {}",
        sizes[2950],
        sizes[2999]
    );
    let mut sizes: Vec<usize> = (0..3000)
        .map(|number| {
            world
                .detection_v1(Product::Protect, number)
                .to_string()
                .len()
        })
        .collect();
    sizes.sort_unstable();
    assert!((1200..2500).contains(&sizes[1500]), "{}", sizes[1500]);
}

#[test]
fn both_shapes_tell_of_the_same_thing_and_differ_where_they_must() {
    let world = world(5);
    let (one, two) = (
        world.detection_v1(Product::Inspect, 40),
        world.detection_v2(Product::Inspect, 40),
    );
    assert_eq!(one["uuid"], two["uuid"]);
    assert_eq!(one["occurTime"], two["occurTime"]);
    assert_eq!(one["category"], "DETECTION_CATEGORY_CORRELATION_RULE");
    assert_eq!(two["category"], "DETECTION_CATEGORY_EDR_RULE");
    assert_eq!(one["context"]["deviceUuid"], two["device"]["uuid"]);
    assert_eq!(one.get("device"), None);
    let uuid = two["device"]["uuid"].as_str().unwrap();
    assert_eq!(two["device"]["displayName"], world.device_names()[uuid]);
}

#[test]
fn records_are_incomplete_in_every_way_the_contract_allows() {
    let world = world(5);
    let records: Vec<Value> = (0..3000)
        .map(|number| world.detection_v2(Product::Protect, number))
        .collect();
    let any = |test: &dyn Fn(&Value) -> bool| records.iter().any(test);
    assert!(any(&|record| record.get("typeName").is_none()));
    assert!(any(&|record| record.get("typeName") == Some(&Value::Null)));
    assert!(any(&|record| record["typeName"] == ""));
    assert!(any(
        &|record| record["severityLevel"] == "SEVERITY_LEVEL_UNSPECIFIED"
    ));
    assert!(any(
        &|record| record["category"] == "DETECTION_CATEGORY_BROWSER_PROTECTION"
    ));
    assert!(any(&|record| record.get("mitreTechniques").is_some()));
    assert!(any(&|record| {
        let size = record["objectSizeBytes"].as_str().unwrap_or_default();
        size.parse::<u64>().is_ok_and(|size| size > 1 << 31)
    }));
    for digits in [20, 24, 27, 30] {
        assert!(any(
            &|record| record["occurTime"].as_str().unwrap().len() == digits
        ));
    }
}

#[test]
fn incidents_open_and_close_and_name_detections_that_exist() {
    let world = world(5);
    let now = nanos(start());
    let mut states = BTreeSet::new();
    for version in world.incidents_since(now - 6 * DAY, now) {
        let record = world.incident(version, true);
        let uuid = record["uuid"].as_str().unwrap();
        assert_eq!(world.incident_record(uuid, start()).as_ref(), Some(&record));
        states.insert(record["status"].as_str().unwrap().to_owned());
        for uuid in record["detectionUuids"].as_array().unwrap() {
            let (product, number) = world.find_detection(uuid.as_str().unwrap()).unwrap();
            assert!(number < world.known(product, start()));
        }
        assert!(!record["deviceUuids"].as_array().unwrap().is_empty());
        assert!(version.updated.nanos - version.created.nanos < incident::LIFE);
    }
    assert_eq!(states.len(), 4, "{states:?}");
}

#[test]
fn only_cloud_detections_have_mails_and_some_are_long() {
    let world = world(5);
    let records: Vec<Value> = (0..2000)
        .map(|number| world.detection_v2(Product::CloudOffice, number))
        .collect();
    assert!(
        records
            .iter()
            .any(|record| record["email"].to_string().len() > 65_536)
    );
    assert!(
        records
            .iter()
            .all(|record| record["device"].as_object().is_none_or(Map::is_empty))
    );
    assert_eq!(
        world.detection_v2(Product::Protect, 5).get("email"),
        Some(&Value::Null)
    );
}

/// The records of ESET Connect in `docs/contracts/values.md`.
pub(crate) const ESET: [&str; 6] = ["v1", "v2", "response", "event", "incident", "device"];

/// The members of `docs/contracts/values.md`, each with its words: those that stand there, and those
/// that records say.
pub(crate) struct Words {
    documented: BTreeMap<String, BTreeSet<String>>,
    said: BTreeMap<String, BTreeSet<String>>,
}

impl Words {
    /// The words of some APIs.
    pub(crate) fn of(is_one: impl Fn(&str) -> bool) -> Self {
        let page = include_str!("../../../docs/contracts/values.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows = rows.map(|row| {
            let (member, words) = row.split_once("` | ").unwrap();
            let words = words.split('`').skip(1).step_by(2);
            (member.to_owned(), words.map(str::to_owned).collect())
        });
        let documented: BTreeMap<String, _> = rows
            .filter(|(member, _)| is_one(member.split('.').next().unwrap()))
            .collect();
        assert!(documented.len() > 20, "{documented:?}");
        Self {
            documented,
            said: BTreeMap::new(),
        }
    }

    /// Holds what a record says.
    pub(crate) fn hold(&mut self, api: &str, record: &Value) {
        let prefix = format!("{api}.");
        let names = (self.documented.keys())
            .filter_map(|name| name.strip_prefix(&*prefix))
            .collect();
        texts(record, &names, &mut |name, text| {
            let words = self.said.entry(format!("{api}.{name}")).or_default();
            words.insert(text.to_owned());
        });
    }

    /// Fails unless the same words are said and documented.
    pub(crate) fn compare(self) {
        assert_eq!(self.said, self.documented);
    }
}

/// Every text of a member of that name in a value, however deep.
fn texts(value: &Value, names: &BTreeSet<&str>, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if let (true, Some(text)) = (names.contains(&**name), value.as_str())
                    && !text.is_empty()
                {
                    found(name, text);
                }
                texts(value, names, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| texts(one, names, found)),
        _ => {}
    }
}

#[test]
fn every_word_that_eset_chooses_stands_in_the_contract_and_none_is_there_in_vain() {
    let (world, mut words) = (world(6), Words::of(|api| ESET.contains(&api)));
    let now = nanos(start());
    let mut hold = |api: &str, record: &Value| {
        words.hold(api, record);
        words.hold("response", &record["responses"]);
        words.hold("event", &record["triggeringEvent"]);
    };
    for product in Product::ALL {
        for number in 0..1000 {
            if product != Product::CloudOffice {
                hold("v1", &world.detection_v1(product, number));
            }
            hold("v2", &world.detection_v2(product, number));
        }
    }
    for incident in world.incidents_since(now - 30 * DAY, now) {
        for version in world.incident_steps(incident.number) {
            hold("incident", &world.incident(version, true));
        }
    }
    for number in 0..DEVICES {
        hold("device", &world.company.device(number, now));
    }
    words.compare();
}
