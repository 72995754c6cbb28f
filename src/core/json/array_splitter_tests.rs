use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::json::chunk::{MAX_CHUNK_BYTES, tests::judge};

/// What stands around the records.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Continuation {
    next_page_token: Option<String>,
}

impl Continuation {
    fn next_page(&self) -> Option<&str> {
        self.next_page_token
            .as_deref()
            .filter(|token| !token.is_empty())
    }
}

fn cut(text: &[u8], sizes: &[usize]) -> Result<(Vec<Chunk>, Continuation)> {
    cut_by(ArraySplitter::new("detections"), text, sizes)
}

fn cut_by(
    mut cutter: ArraySplitter,
    text: &[u8],
    sizes: &[usize],
) -> Result<(Vec<Chunk>, Continuation)> {
    let mut chunks = Vec::new();
    let mut rest = text;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, tail) = rest.split_at((*size).clamp(1, rest.len()));
        cutter.feed(part, &mut chunks)?;
        rest = tail;
    }
    let (last, frame) = cutter.finish()?;
    chunks.push(last);
    chunks.iter().for_each(judge);
    Ok((chunks, frame))
}

fn texts(chunks: &[Chunk]) -> Vec<&[u8]> {
    chunks
        .iter()
        .flat_map(|chunk| (0..chunk.handy()).map(|at| chunk.record(at)))
        .collect()
}

fn values(chunks: &[Chunk]) -> Vec<Value> {
    texts(chunks)
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect()
}

#[test]
fn records_and_continuation_come_apart() {
    let text = br#" {"a":{"detections":[1]},"detections" : [ {"x":"]}\"\\"}, 7 ,null,"s",[[]] ],
        "nextPageToken":"detections","totalSize":3} "#;
    for size in [1, 2, 3, 7, 1000] {
        let (chunks, frame) = cut(text, &[size]).unwrap();
        assert_eq!(
            values(&chunks),
            [
                json!({"x": "]}\"\\"}),
                json!(7),
                json!(null),
                json!("s"),
                json!([[]])
            ],
            "in parts of {size}"
        );
        assert_eq!(frame.next_page(), Some("detections"));
    }
}

#[test]
fn the_last_page_has_many_forms() {
    for end in [
        r#""nextPageToken":"""#,
        r#""nextPageToken":null"#,
        r#""other":[]"#,
    ] {
        let text = format!(r#"{{"detections":[],{end}}}"#);
        let (chunks, frame) = cut(text.as_bytes(), &[5]).unwrap();
        assert!(values(&chunks).is_empty());
        assert_eq!(frame.next_page(), None, "{end}");
    }
    let (chunks, _) = cut(b"{}", &[1]).unwrap();
    assert!(values(&chunks).is_empty());
    let (chunks, _) = cut(br#"{"detections":null}"#, &[3]).unwrap();
    assert!(values(&chunks).is_empty());
}

#[test]
fn rubbish_is_named() {
    let error = |text: &[u8]| cut(text, &[4]).unwrap_err().to_string();
    insta::assert_snapshot!(error(b""), @"the answer is empty");
    insta::assert_snapshot!(error(br#"{"detections":[{"uuid":"1"},{"uu"#), @"the answer ends in the middle");
    insta::assert_snapshot!(error(br#"{"detections":[1,2]"#), @"the answer ends in the middle");
    insta::assert_snapshot!(error(b"<html>sorry</html>"), @"the answer is not as documented: expected value at line 1 column 1");
    insta::assert_snapshot!(error(br#"{"nextPageToken":7}"#), @"the answer is not as documented: invalid type: integer `7`, expected a string at line 1 column 18");
}

#[test]
fn records_that_are_no_array_are_not_passed_over() {
    let error = |text: &str| cut(text.as_bytes(), &[4]).unwrap_err().to_string();
    for records in ["{}", r#"{"uuid":"1"}"#, r#""x""#, r#""""#, "7", "true"] {
        let text = format!(r#"{{"nextPageToken":"p","detections":{records}}}"#);
        let expected = "the answer is not as documented: `detections` is no array";
        assert_eq!(error(&text), expected, "{records}");
    }
    // The name is spelt so that the cutter does not know it.
    let expected = "the answer is not as documented: `detections` is no array";
    assert_eq!(error(r#"{"d\u0065tections":[{"uuid":"1"}]}"#), expected);
    // An answer that is an array, even an empty one, is none.
    assert!(error("[]").starts_with("the answer is not as documented"));
    assert!(error(r#"[{"uuid":"1"}]"#).starts_with("the answer is not as documented"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_answer() {
    let text = b"\xef\xbb\xbf{\"detections\":[1],\"nextPageToken\":\"p\"}";
    for size in [1, 2, 100] {
        let (chunks, frame) = cut(text, &[size]).unwrap();
        assert_eq!(values(&chunks), [json!(1)]);
        assert_eq!(frame.next_page(), Some("p"));
    }
}

#[test]
fn what_follows_the_answer_is_an_error() {
    for tail in ["x", "{}", r#"{"detections":[2]}"#, "]", "\0"] {
        let text = format!(r#"{{"detections":[1]}}{tail}"#);
        assert!(cut(text.as_bytes(), &[3]).is_err(), "{tail}");
    }
    assert!(cut(b"{\"detections\":[1]} \r\n", &[3]).is_ok());
}

#[test]
fn records_of_a_member_that_comes_twice_are_all_there() {
    let text = br#"{"detections":[1],"detections":[2]}"#;
    assert_eq!(values(&cut(text, &[5]).unwrap().0), [json!(1), json!(2)]);
    assert!(cut(br#"{"nextPageToken":"a","nextPageToken":"b"}"#, &[9]).is_err());
}

#[test]
fn records_that_are_no_json_come_out_for_the_dead_letter() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let text = [
        &b"{\"detections\":[{\"a\":\"\xff\"},{\"a\":\"\0\"},{\"a\":],nul,"[..],
        deep.as_bytes(),
        b",{\"good\":1}]}",
    ]
    .concat();
    for size in [1, 1000, 100_000] {
        let (chunks, _) = cut(&text, &[size]).unwrap();
        let records: Vec<&[u8]> = chunks
            .iter()
            .flat_map(|chunk| (0..chunk.len()).map(|at| chunk.record(at)))
            .collect();
        let expected: [&[u8]; 6] = [
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\0\"}",
            b"{\"a\":]",
            b"nul",
            deep.as_bytes(),
            b"{\"good\":1}",
        ];
        assert_eq!(records, expected);
        let good = records.iter().filter(|text| JsonObject::of(text).is_ok());
        assert_eq!(good.count(), 1);
    }
}

#[test]
fn a_number_that_is_too_long_is_set_aside_like_any_record() {
    let digits = "7".repeat(MAX_CHUNK_BYTES + 1);
    let text = format!(r#"{{"detections":[1,{digits} ,[2]],"nextPageToken":"p"}}"#);
    let (chunks, frame) = cut(text.as_bytes(), &[100_000]).unwrap();
    assert_eq!(values(&chunks), [json!(1), json!([2])]);
    let oversized: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.oversized).collect();
    assert_eq!(oversized.len(), 1);
    assert_eq!(oversized[0].bytes, digits.len());
    assert_eq!(frame.next_page(), Some("p"));
}

#[test]
fn an_answer_that_is_all_frame_is_refused_before_it_fills_the_memory() {
    let text = format!(r#"{{"other":"{}"}}"#, "x".repeat(MAX_FRAME_BYTES));
    let error = cut(text.as_bytes(), &[64_000]).unwrap_err().to_string();
    assert_eq!(error, "the answer holds over 1024 KB outside `detections`");
}

#[test]
fn a_record_that_is_too_long_is_set_aside_and_the_rest_goes_on() {
    let long = "x".repeat(MAX_CHUNK_BYTES);
    let text = format!(r#"{{"detections":[{{"a":1}},{{"long":"{long}"}},{{"b":2}}]}}"#);
    let (chunks, _) = cut(text.as_bytes(), &[100_000]).unwrap();
    assert_eq!(values(&chunks), [json!({"a": 1}), json!({"b": 2})]);
    let oversized: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.oversized).collect();
    assert_eq!(oversized.len(), 1);
    assert_eq!(oversized[0].bytes, MAX_CHUNK_BYTES + r#"{"long":""}"#.len());
    assert!(oversized[0].prefix.starts_with(br#"{"long":"xxx"#));
}

#[test]
fn chunks_stay_small() {
    let record = format!(r#"{{"a":"{}"}}"#, "y".repeat(300_000));
    let text = format!(
        r#"{{"detections":[{}]}}"#,
        vec![record.as_str(); 30].join(",")
    );
    let (chunks, _) = cut(text.as_bytes(), &[64_000]).unwrap();
    assert!(chunks.len() > 5);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.bytes.len() <= MAX_CHUNK_BYTES)
    );
    assert_eq!(values(&chunks).len(), 30);
}

#[test]
fn one_walk_finds_a_record_and_its_members() {
    let record = format!(r#"{{"a":"{}","b":[1,{{"c":null}}]}}"#, "y".repeat(5_000));
    let text = format!(r#"{{"detections":[{}]}}"#, vec![&*record; 500].join(",\n"));
    for hashed in [false, true] {
        let mut cutter = ArraySplitter::new("detections").in_chunks_of(128 << 10);
        cutter = cutter.hashed(hashed);
        let mut chunks = Vec::new();
        cutter.feed(text.as_bytes(), &mut chunks).unwrap();
        let walked = cutter.walk.walker.walked;
        chunks.push(cutter.finish::<Continuation>().unwrap().0);
        assert_eq!(texts(&chunks), vec![record.as_bytes(); 500]);
        for chunk in &chunks {
            assert!((0..chunk.handy()).all(|at| chunk.has_noted(at)));
            judge(chunk);
        }
        // One that straddles two strides is gone over again.
        assert!(walked < text.len() * 5 / 4, "{walked}");
    }
}

#[test]
fn a_long_record_is_not_gone_over_again_and_again() {
    let long = "x".repeat(MAX_RECORD_BYTES - 100);
    for (record, is_one) in [
        (format!(r#"{{"a":"{long}"}}"#), true),
        (format!(r#"{{"a":"{long}",}}"#), false),
    ] {
        let text = format!(r#"{{"detections":[{{"b":1}},{record}"#);
        let mut cutter = ArraySplitter::new("detections");
        let mut chunks = Vec::new();
        for part in text.as_bytes().chunks(1_000) {
            cutter.feed(part, &mut chunks).unwrap();
        }
        cutter.feed(&vec![b' '; STRIDE], &mut chunks).unwrap();
        assert!(cutter.walk.walker.walked <= text.len() + STRIDE);
        cutter.feed(b"]}", &mut chunks).unwrap();
        chunks.push(cutter.finish::<Continuation>().unwrap().0);
        assert_eq!(texts(&chunks), [br#"{"b":1}"#, record.as_bytes()]);
        let (last, at) = chunks
            .iter()
            .rev()
            .find_map(|chunk| Some((chunk, chunk.handy().checked_sub(1)?)))
            .unwrap();
        assert_eq!(last.has_noted(at), is_one);
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.bytes.len() <= MAX_CHUNK_BYTES)
        );
    }
}

#[test]
fn a_record_is_too_long_by_its_length_alone() {
    for more in 0..2 {
        let long = "x".repeat(MAX_RECORD_BYTES + more - r#"{"a":""}"#.len());
        // However it stands to the strides.
        for before in [0, 1, 20_000, STRIDE] {
            let before = " ".repeat(before);
            let text = format!(r#"{{"detections":[{before}{{"a":"{long}"}},{{"b":2}}]}}"#);
            let (chunks, _) = cut(text.as_bytes(), &[40_000]).unwrap();
            let records: usize = chunks.iter().map(Chunk::handy).sum();
            let oversized: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.oversized).collect();
            assert_eq!((records, oversized.len()), (2 - more, more));
            assert!(
                oversized
                    .iter()
                    .all(|one| one.bytes == MAX_RECORD_BYTES + 1)
            );
        }
    }
}

/// Bytes that may break an answer anywhere, or leave it whole.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(&b"{}[]\",:\\0 "[..]), any::<u8>(),]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        r#"[a-z"\\\]\[{},:\né]{0,12}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"]{0,3}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_records_in_any_parts_come_out_whole(
        records in prop::collection::vec(any_json(), 0..6),
        before in any_json(),
        sizes in prop::collection::vec(1usize..40, 1..5),
        pretty in any::<bool>(),
    ) {
        let document = json!({"before": before, "detections": records, "nextPageToken": "p"});
        let text = if pretty {
            serde_json::to_vec_pretty(&document).unwrap()
        } else {
            serde_json::to_vec(&document).unwrap()
        };
        let (chunks, frame) = cut(&text, &sizes).unwrap();
        prop_assert_eq!(values(&chunks), records);
        prop_assert_eq!(frame.next_page(), Some("p"));
    }

    #[test]
    fn a_broken_answer_comes_apart_the_same_way_in_any_parts(
        records in prop::collection::vec(any_json(), 0..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_byte()), 0..4),
        sizes in prop::collection::vec(1usize..40, 1..5),
        enough in 1usize..300,
        hashed in any::<bool>(),
    ) {
        let document = json!({"detections": records, "more": {"detections": []}});
        let mut text = serde_json::to_vec(&document).unwrap();
        for (at, byte) in changes {
            *at.get_mut(&mut text) = byte;
        }
        let come_apart = |enough: usize, sizes: &[usize]| {
            let cutter = ArraySplitter::new("detections").in_chunks_of(enough).hashed(hashed);
            cut_by(cutter, &text, sizes)
                .map(|(chunks, frame)| {
                    let texts = texts(&chunks).iter().map(|text| text.to_vec()).collect::<Vec<_>>();
                    (texts, frame.next_page_token)
                })
                .map_err(|error| error.to_string())
        };
        // Byte by byte no walk comes to an end, and the brackets alone decide.
        let expected = come_apart(1, &[1]);
        prop_assert_eq!(come_apart(1 << 20, &sizes), expected.clone());
        prop_assert_eq!(come_apart(enough, &sizes), expected);
    }
}
