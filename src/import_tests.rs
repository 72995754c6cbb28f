//! What follows from the stock connector's state, case by case.

use serde_json::json;

use super::*;

#[path = "import_walk_tests.rs"]
mod walk;

const HOUR: Duration = Duration::from_hours(1);
const LOOKBACK: Duration = Duration::from_hours(72);
const NOW: &str = "2026-03-02T08:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// An entity, saved an hour ago.
fn stored(table: &str, properties: &serde_json::Value) -> Stored {
    let mut all = json!({
        "PartitionKey": table,
        "RowKey": table,
        "Timestamp": "2026-03-02T07:00:00.1234567Z",
        "TimeGenerated": "2020-01-01T00:00:00Z",
    });
    let all = all.as_object_mut().unwrap();
    all.extend(properties.as_object().unwrap().clone());
    Stored {
        table: table.to_owned(),
        properties: all.clone(),
    }
}

fn time_of(source: &str, time: &str) -> Stored {
    let table = format!("LastDetectionTime{source}");
    stored(&table, &json!({ table.as_str(): time }))
}

fn saved(mut stored: Stored, time: &str) -> Stored {
    stored
        .properties
        .insert("Timestamp".to_owned(), time.into());
    stored
}

fn resume(stream: &str, stored: &[Stored]) -> Option<Resume> {
    Resume::of(stream, stored, LOOKBACK, at(NOW))
}

fn proven(stream: &str, stored: &[Stored]) -> Option<DateTime<Utc>> {
    resume(stream, stored).map(|resume| resume.proven)
}

#[test]
fn a_time_of_up_to_3_2_is_taken_exactly_less_the_second_that_was_added() {
    for (source, stream) in [
        ("EP", "eset.detections"),
        ("EI", "eset.detections"),
        ("ECOS", "eset.cloud-office"),
        ("INCIDENTS", "eset.incidents"),
    ] {
        let stored = [time_of(source, "2026-03-01T22:30:01Z")];
        let resume = resume(stream, &stored).unwrap();
        assert_eq!(resume.proven, at("2026-03-01T22:30:00Z"), "{source}");
        assert_eq!(resume.from, at("2026-02-26T22:30:00Z"));
        // Until it was saved: the time that is held is that of the last page.
        assert_eq!(resume.repeats_until, at("2026-03-02T07:00:00.1234567Z"));
        assert_eq!(resume.hours(), 81);
        assert_eq!(resume.gap, None);
        let others = ["eset.detections", "eset.cloud-office", "eset.incidents"];
        for other in others.into_iter().filter(|other| *other != stream) {
            assert_eq!(proven(other, &stored), None, "{source} {other}");
        }
    }
}

#[test]
fn of_two_sources_in_one_stream_the_earlier_counts() {
    let stored = [
        time_of("EP", "2026-03-02T06:00:01Z"),
        time_of("EI", "2026-02-20T06:00:01Z"),
    ];
    let resume = resume("eset.detections", &stored).unwrap();
    assert_eq!(resume.proven, at("2026-02-20T06:00:00Z"));
    assert_eq!(resume.repeats_until, at("2026-03-02T07:00:00.1234567Z"));
    let says = resume.says.join("\n");
    assert!(says.contains("far apart"), "{says}");
    assert!(says.contains("cursor set eset.detections TIME"), "{says}");
    assert!(says.contains("groups of detections"), "{says}");
}

#[test]
fn times_are_read_as_python_writes_them() {
    for text in [
        "2026-03-01T22:30:01Z",
        "2026-03-01T22:30:01.000000Z",
        "2026-03-01T22:30:01+00:00",
        "2026-03-01T23:30:01+01:00",
        "2026-03-01T22:30:01",
        "2026-03-01 22:30:01",
        " 2026-03-01T22:30:01.000000 ",
    ] {
        let got = proven("eset.detections", &[time_of("EP", text)]);
        assert_eq!(got, Some(at("2026-03-01T22:30:00Z")), "{text}");
    }
}

#[test]
fn a_time_from_a_device_whose_clock_is_ahead_counts_as_of_when_it_was_saved() {
    let stored = [time_of("EP", "2031-01-01T00:00:00Z")];
    let resume = resume("eset.detections", &stored).unwrap();
    assert_eq!(resume.proven, at("2026-03-02T07:00:00.1234567Z"));
    assert_eq!(resume.repeats_until, at(NOW));
    assert!(
        resume.says[0].contains("later than it was saved"),
        "{:?}",
        resume.says
    );
    // Nor later than now, whatever the service's clock says.
    let ahead = [saved(
        time_of("EP", "2031-01-01T00:00:00Z"),
        "2032-01-01T00:00:00Z",
    )];
    assert_eq!(proven("eset.detections", &ahead), Some(at(NOW)));
}

#[test]
fn what_cannot_be_read_counts_as_of_when_it_was_saved() {
    for value in [json!("soon"), json!(""), json!(7), json!(null), json!(true)] {
        let table = "LastDetectionTimeEP";
        let stored = [stored(table, &json!({ table: value }))];
        let resume = resume("eset.detections", &stored).unwrap();
        assert_eq!(resume.proven, at("2026-03-02T07:00:00.1234567Z"));
        assert!(
            resume.says[0].contains("nothing that can be read"),
            "{:?}",
            resume.says
        );
    }
    let nothing = saved(time_of("EP", "soon"), "never");
    assert_eq!(
        proven("eset.detections", std::slice::from_ref(&nothing)),
        None
    );
    // What is not known can't be later than what another table says.
    let both = [nothing, time_of("EI", "2026-03-01T22:30:01Z")];
    assert_eq!(proven("eset.detections", &both), None);
}

#[test]
fn a_delta_token_of_3_3_is_recognised_and_not_used() {
    let stored = [stored(
        "LastDataEP",
        &json!({"last_data": "CAESBgjAhYDEBhABGgQIAxAB", "next_page_token": ""}),
    )];
    let resume = resume("eset.detections", &stored).unwrap();
    assert_eq!(resume.proven, at("2026-03-02T07:00:00.1234567Z"));
    assert!(resume.says[0].contains("delta token"), "{:?}", resume.says);
    assert!(!resume.says.join(" ").contains("CAESBgjAhYDEBhABGgQIAxAB"));
    // Very late reports are out of a window's reach: that is said.
    let gap = resume.gap.unwrap();
    assert_eq!((gap.from, gap.to), (resume.proven, at(NOW)));
    assert!(gap.why.contains("2026-02-27 07:00 UTC"), "{}", gap.why);
}

#[test]
fn tables_of_3_3_are_of_the_streams_that_their_names_end_with() {
    let streams = ["eset.detections", "eset.cloud-office", "eset.incidents"];
    for (table, expected) in [
        ("LastDataEP", [true, false, false]),
        ("LastDataEI", [true, false, false]),
        ("LastDataEIECOS", [true, true, false]),
        ("lastdataecos", [false, true, false]),
        ("LastDataINCIDENTS", [false, false, true]),
        // Nobody knows: it counts for all.
        ("LastDataV2", [true, true, true]),
        ("TokenParams", [false, false, false]),
    ] {
        let stored = [stored(table, &json!({"x": "token"}))];
        let found = streams.map(|stream| resume(stream, &stored).is_some());
        assert_eq!(found, expected, "{table}");
    }
}

#[test]
fn a_time_of_3_3_is_taken_and_a_page_under_way_is_said() {
    let stored = [stored(
        "LastDataINCIDENTS",
        &json!({"last_data": "2026-03-01T22:30:01Z", "next_page_token": "abc"}),
    )];
    let resume = resume("eset.incidents", &stored).unwrap();
    assert_eq!(resume.proven, at("2026-03-01T22:30:00Z"));
    assert_eq!(resume.gap, None);
    assert!(
        resume.says[0].contains("between two pages"),
        "{:?}",
        resume.says
    );
}

#[test]
fn what_an_update_left_behind_is_named_and_not_used() {
    let old = saved(
        time_of("EP", "2025-10-01T06:00:01Z"),
        "2025-10-01T06:05:00Z",
    );
    let new = stored("LastDataEIECOS", &json!({"x": "token"}));
    let after = resume("eset.detections", &[old.clone(), new.clone()]).unwrap();
    assert_eq!(after.proven, at("2026-03-02T07:00:00.1234567Z"));
    let says = after.says.join("\n");
    assert!(
        says.contains("`LastDetectionTimeEP` is left over"),
        "{says}"
    );
    assert!(says.contains("2025-10-01 06:00:00 UTC"), "{says}");
    // And after a way back.
    let (old, new) = (
        time_of("EP", "2026-03-02T06:00:01Z"),
        saved(new, "2025-10-01T06:05:00Z"),
    );
    let back = proven("eset.detections", &[old, new]);
    assert_eq!(back, Some(at("2026-03-02T06:00:00Z")));
}

#[test]
fn a_table_of_an_unknown_source_never_makes_a_position_later() {
    let old = saved(
        time_of("EP", "2025-10-01T06:00:01Z"),
        "2025-10-01T06:05:00Z",
    );
    let unknown = stored("LastDataV1", &json!({"x": "token"}));
    let resume = resume("eset.detections", &[old, unknown]).unwrap();
    assert_eq!(resume.proven, at("2025-10-01T06:00:00Z"));
}

#[test]
fn the_lookback_bounds_what_repeats() {
    let stored = [time_of("EP", "2026-03-01T22:30:01Z")];
    for hours in [0, 1, 36] {
        let lookback = HOUR * hours;
        let resume = Resume::of("eset.detections", &stored, lookback, at(NOW)).unwrap();
        assert_eq!(resume.from, resume.proven - delta(lookback));
        assert_eq!(resume.hours(), i64::from(hours) + 9);
        let last = resume.says.last().unwrap();
        assert!(last.contains("`detectionUuid`"), "{last}");
    }
}

#[test]
fn a_connector_that_may_still_run_is_said() {
    let running = saved(
        time_of("EP", "2026-03-02T07:50:01Z"),
        "2026-03-02T07:55:00Z",
    );
    let says = resume("eset.detections", &[running])
        .unwrap()
        .says
        .join("\n");
    assert!(says.contains("stop it"), "{says}");
    let stopped = [time_of("EP", "2026-03-02T06:00:01Z")];
    let says = resume("eset.detections", &stopped).unwrap().says.join("\n");
    assert!(!says.contains("stop it"), "{says}");
}

#[test]
fn what_is_printed_to_repeat_is_no_hour_more_than_the_lookback_for_a_second() {
    let prompt = saved(
        time_of("EP", "2026-03-01T22:30:01Z"),
        "2026-03-01T22:30:05Z",
    );
    let resume = resume("eset.detections", &[prompt]).unwrap();
    let last = resume.says.last().unwrap();
    assert!(last.contains("at most 72 hours and 1 minute of"), "{last}");
}

#[test]
fn incidents_are_read_from_the_first_landing_on() {
    let lookback = usual_lookback("eset.incidents", HOUR, at(NOW));
    let stored = [time_of("INCIDENTS", "2026-03-01T22:30:01Z")];
    let resume = Resume::of("eset.incidents", &stored, lookback, at(NOW)).unwrap();
    // One that was landed open on the first day, and closed since.
    assert!(resume.from < at("2024-10-29T00:00:00Z"), "{}", resume.from);
    let says = resume.says.join("\n");
    assert!(says.contains("first landing"), "{says}");
    assert_eq!(
        usual_lookback("eset.detections", LOOKBACK, at(NOW)),
        LOOKBACK
    );
}
