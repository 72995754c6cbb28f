//! What every store promises, run over each.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use sentinel_connector::{
    core::{
        mapping::{
            assets::{Change, Entry, Kind as AssetKind, Name},
            original::Original,
        },
        position::{
            cursor::{Gap, Lease, Position, STATE_VERSION, StreamKey, StreamState},
            snapshot::Sighting,
        },
    },
    embedded::EmbeddedFile,
    error,
    storage::{
        DeadLetter, ETag, Parked, SaveError, StateStore, Storage, memory::MemoryStorage,
        sqlite::SqliteStorage,
    },
};

use crate::azurite::Azurite;

mod azure;
mod sqlite;

const NONE: [u64; 0] = [];

fn time() -> DateTime<Utc> {
    "2026-01-02T03:04:05.123456789Z".parse().unwrap()
}

fn state(note: &str) -> StreamState {
    StreamState {
        position: Some(Position::Token(format!("token \"{note}\" ü"))),
        history_start: Some(time()),
        gaps: vec![Gap {
            from: time(),
            to: time() + Duration::hours(1),
            why: note.to_owned(),
        }],
        lease: Some(Lease {
            owner: note.to_owned(),
            until: time(),
        }),
        ..StreamState::default()
    }
}

fn key(stream: &str) -> StreamKey {
    StreamKey::new("default", stream)
}

/// Every promise, over two handles of the same data, as two processes have them.
async fn conforms(one: &dyn Storage, two: &dyn Storage) {
    a_state_comes_back_as_it_was_saved(one, two).await;
    only_the_version_that_was_loaded_can_be_saved_over(one, two).await;
    a_version_never_comes_back(one, two).await;
    states_are_listed_by_key(one).await;
    many_states_are_loaded_as_each_is(one).await;
    a_state_of_a_newer_schema_is_refused(one).await;
    fingerprints_add_up_until_they_are_pruned(one, two).await;
    a_bucket_can_be_big(one).await;
    sightings_are_read_in_the_order_of_their_adding(one, two).await;
    a_dead_letter_is_buried_once(one, two).await;
    a_dead_letter_can_be_taken_out(one, two).await;
    what_is_parked_is_listed_by_id_until_it_is_dropped(one, two).await;
    parked_rows_stay_as_they_were_first(one, two).await;
    an_original_is_replaced(one, two).await;
    an_asset_is_found_by_each_key_that_it_has_now(one, two).await;
    assets_that_share_a_key_are_all_found(one, two).await;
    nobody_alive_is_gone(one, two).await;
}

async fn many_states_are_loaded_as_each_is(one: &dyn Storage) {
    let keys: Vec<StreamKey> = (0..40)
        .map(|at| StreamKey::new(&format!("many{}", at % 20), &format!("stream{at}")))
        .collect();
    for (at, key) in keys.iter().enumerate().filter(|(at, _)| at % 3 > 0) {
        one.save(key, &state(&format!("{at}")), None).await.unwrap();
    }
    one.forget(&keys[1]).await.unwrap();
    // Those of many connections and of few.
    for (some, expected) in [(&keys[..], 25), (&keys[2..7], 3)] {
        let loaded = one.load_all(some).await;
        assert_eq!(loaded.len(), some.len());
        let mut there = 0;
        for (key, loaded) in some.iter().zip(loaded) {
            assert_eq!(loaded, one.load(key).await, "{key}");
            there += usize::from(loaded.unwrap().is_some());
        }
        assert_eq!(there, expected);
    }
    for key in &keys {
        one.forget(key).await.unwrap();
    }
}

async fn sightings_are_read_in_the_order_of_their_adding(one: &dyn Storage, two: &dyn Storage) {
    let sighting = |at: u64| Sighting {
        id: format!("machine \"{at}\" ü"),
        content: at.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        missed: at.is_multiple_of(7),
    };
    assert_eq!(log(one, "set", 7).await, []);
    let all: Vec<Sighting> = (0..12_000).map(sighting).collect();
    for some in all.chunks(701) {
        one.add_sightings("set", 7, some).await.unwrap();
    }
    one.add_sightings("set", 7, &[]).await.unwrap();
    let others = [sighting(1), sighting(1)];
    two.add_sightings("set", -8, &others).await.unwrap();
    two.add_sightings("set/2", 7, &others).await.unwrap();
    assert_eq!(log(two, "set", 7).await, all);
    assert_eq!(log(one, "set", -8).await, others);

    one.drop_sightings("set", &[-8, 9]).await.unwrap();
    assert_eq!(log(two, "set", 7).await, []);
    assert_eq!(log(two, "set", -8).await, others);
    assert_eq!(log(two, "set/2", 7).await, others);
    two.drop_sightings("set", &[]).await.unwrap();
    two.drop_sightings("none", &[]).await.unwrap();
    assert_eq!(log(one, "set", -8).await, []);
}

/// A whole log.
async fn log(storage: &dyn Storage, set: &str, pass: i64) -> Vec<Sighting> {
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let read = storage.sightings(set, pass, place).await.unwrap();
        all.extend(read.sightings);
        from = read.next;
    }
    all
}

async fn a_state_comes_back_as_it_was_saved(one: &dyn Storage, two: &dyn Storage) {
    let key = key("roundtrip");
    assert_eq!(one.load(&key).await.unwrap(), None);
    let etag = one.save(&key, &state("a"), None).await.unwrap();
    assert_eq!(
        two.load(&key).await.unwrap(),
        Some((state("a"), etag.clone()))
    );
    let next = two.save(&key, &state("b"), Some(&etag)).await.unwrap();
    assert_ne!(next, etag);
    assert_eq!(one.load(&key).await.unwrap(), Some((state("b"), next)));
}

async fn only_the_version_that_was_loaded_can_be_saved_over(one: &dyn Storage, two: &dyn Storage) {
    let key = key("conflict");
    let first = one.save(&key, &state("first"), None).await.unwrap();
    let won = two.save(&key, &state("won"), Some(&first)).await.unwrap();
    let refused = [
        one.save(&key, &state("lost"), Some(&first)).await,
        one.save(&key, &state("lost"), None).await,
        one.save(&key, &state("lost"), Some(&ETag("no etag".to_owned())))
            .await,
        one.save(&self::key("none"), &state("lost"), Some(&won))
            .await,
    ];
    for save in refused {
        assert_eq!(save, Err(SaveError::Conflict));
    }
    assert_eq!(one.load(&key).await.unwrap(), Some((state("won"), won)));
    assert_eq!(one.load(&self::key("none")).await.unwrap(), None);
}

async fn a_version_never_comes_back(one: &dyn Storage, two: &dyn Storage) {
    let key = key("forgotten");
    let old = one.save(&key, &state("old"), None).await.unwrap();
    two.forget(&key).await.unwrap();
    two.forget(&key).await.unwrap();
    assert_eq!(one.load(&key).await.unwrap(), None);
    let over_nothing = one.save(&key, &state("lost"), Some(&old)).await;
    assert_eq!(over_nothing, Err(SaveError::Conflict));
    // As many saves as before: a counter that began again would be back at `old`.
    let new = two.save(&key, &state("new"), None).await.unwrap();
    assert_ne!(new, old);
    let over_the_new = one.save(&key, &state("lost"), Some(&old)).await;
    assert_eq!(over_the_new, Err(SaveError::Conflict));
    assert_eq!(one.load(&key).await.unwrap(), Some((state("new"), new)));
    two.forget(&self::key("never saved")).await.unwrap();
}

/// A store in which the state of `bad` is damaged, and those of its neighbours are not.
async fn one_damaged_state_hides_no_other(storage: &dyn Storage, text: &str) {
    let stored = storage.stored_states().await.unwrap();
    let names: Vec<&str> = stored.iter().map(|(key, _)| key.stream.as_str()).collect();
    assert_eq!(names, ["a", "bad", "c"]);
    for (key, state) in stored {
        match (key.stream.as_str(), state) {
            ("bad", Err(error)) => {
                assert_eq!(error.kind(), error::Kind::Config);
                assert!(error.to_string().contains("default/bad"), "{error}");
            }
            (name, state) => assert_eq!(state.unwrap(), self::state(name)),
        }
    }
    assert!(storage.states().await.is_err());
    assert!(storage.load(&key("bad")).await.is_err());
    let (saved, etag) = storage.saved_text(&key("bad")).await.unwrap().unwrap();
    assert!(saved.contains(text), "{saved}");
    let mended = storage
        .save(&key("bad"), &state("mended"), Some(&etag))
        .await;
    let loaded = storage.load(&key("bad")).await.unwrap();
    assert_eq!(loaded, Some((state("mended"), mended.unwrap())));
    assert_eq!(storage.saved_text(&key("none")).await.unwrap(), None);
}

#[tokio::test]
async fn a_state_of_a_newer_version_in_memory_hides_no_other() {
    let storage = MemoryStorage::new();
    let storage: &dyn Storage = &storage;
    for name in ["a", "bad", "c"] {
        let mut state = state(name);
        if name == "bad" {
            state.version = STATE_VERSION + 1;
        }
        storage.save(&key(name), &state, None).await.unwrap();
    }
    one_damaged_state_hides_no_other(storage, "version").await;
}

async fn states_are_listed_by_key(one: &dyn Storage) {
    for (key, _) in one.states().await.unwrap() {
        one.forget(&key).await.unwrap();
    }
    assert_eq!(one.states().await.unwrap(), []);
    let keys = [("b", "x"), ("a", "y"), ("a", "x.z"), ("B", "x"), ("a", "x")]
        .map(|(connection, stream)| StreamKey::new(connection, stream));
    for key in &keys {
        let saved = one.save(key, &state(&key.to_string()), None).await;
        saved.unwrap();
    }
    let mut expected = keys.map(|key| (key.clone(), state(&key.to_string())));
    expected.sort_by(|(one, _), (two, _)| one.cmp(two));
    assert_eq!(one.states().await.unwrap(), expected);
}

async fn a_state_of_a_newer_schema_is_refused(one: &dyn Storage) {
    let key = key("newer");
    let newer = StreamState {
        version: STATE_VERSION + 1,
        ..StreamState::default()
    };
    one.save(&key, &newer, None).await.unwrap();
    for error in [
        one.load(&key).await.unwrap_err(),
        one.states().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), error::Kind::Config);
        assert!(error.to_string().contains("default/newer"), "{error}");
        assert!(error.to_string().contains("schema"), "{error}");
    }
    one.forget(&key).await.unwrap();
}

async fn found(storage: &dyn Storage, set: &str, bucket: i64) -> Vec<u64> {
    let mut found = storage.fingerprints(set, bucket).await.unwrap();
    found.sort_unstable();
    found
}

async fn fingerprints_add_up_until_they_are_pruned(one: &dyn Storage, two: &dyn Storage) {
    assert_eq!(found(one, "set", 1).await, NONE);
    one.add_fingerprints("set", &[]).await.unwrap();
    let added = [
        (-1, vec![9]),
        (1, vec![u64::MAX, 0]),
        (2, vec![]),
        (3, vec![3]),
    ];
    one.add_fingerprints("set", &added).await.unwrap();
    two.add_fingerprints("set", &[(1, vec![5])]).await.unwrap();
    two.add_fingerprints("other", &[(1, vec![6])])
        .await
        .unwrap();
    assert_eq!(found(one, "set", 1).await, [0, 5, u64::MAX]);
    assert_eq!(found(two, "set", -1).await, [9]);
    assert_eq!(found(two, "set", 2).await, NONE);

    two.prune_fingerprints("set", 3).await.unwrap();
    two.prune_fingerprints("unknown", 3).await.unwrap();
    assert_eq!(found(one, "set", -1).await, NONE);
    assert_eq!(found(one, "set", 1).await, NONE);
    assert_eq!(found(one, "set", 3).await, [3]);
    assert_eq!(found(one, "other", 1).await, [6]);
}

async fn a_bucket_can_be_big(one: &dyn Storage) {
    let hashes: Vec<u64> = (0..300_000).collect();
    for part in hashes.chunks(4_000) {
        let added = [(5, part.to_vec())];
        one.add_fingerprints("big", &added).await.unwrap();
    }
    assert_eq!(found(one, "big", 5).await, hashes);
}

fn letter(id: &str, minutes: i64, reason: &str) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        key: key("letters"),
        table: "IntegrationTable_CL".to_owned(),
        at: time() + Duration::minutes(minutes),
        reason: reason.to_owned(),
        body: vec![0, b'{', 255],
    }
}

async fn a_dead_letter_is_buried_once(one: &dyn Storage, two: &dyn Storage) {
    one.bury(&[]).await.unwrap();
    assert_eq!(one.count_dead_letters().await.unwrap(), 0);
    one.bury(&[letter("b", 2, "why"), letter("c", 1, "why\n\"ü\" 100 %")])
        .await
        .unwrap();
    two.bury(&[letter("b", 0, "again"), letter("a", 3, "why")])
        .await
        .unwrap();
    let oldest_first = [
        letter("c", 1, "why\n\"ü\" 100 %"),
        letter("b", 2, "why"),
        letter("a", 3, "why"),
    ];
    assert_eq!(one.dead_letters(usize::MAX).await.unwrap(), oldest_first);
    assert_eq!(one.dead_letters(1).await.unwrap(), oldest_first[..1]);
    assert_eq!(two.count_dead_letters().await.unwrap(), 3);
}

async fn a_dead_letter_can_be_taken_out(one: &dyn Storage, two: &dyn Storage) {
    let found = two.dead_letter("b").await.unwrap();
    assert_eq!(found, Some(letter("b", 2, "why")));
    assert_eq!(two.dead_letter("B").await.unwrap(), None);
    one.drop_dead_letter("b").await.unwrap();
    two.drop_dead_letter("b").await.unwrap();
    assert_eq!(two.dead_letter("b").await.unwrap(), None);
    assert_eq!(one.count_dead_letters().await.unwrap(), 2);
    // What is refused again after it was taken out is a letter again.
    two.bury(&[letter("b", 5, "again")]).await.unwrap();
    let newest = one.dead_letters(usize::MAX).await.unwrap().pop();
    assert_eq!(newest, Some(letter("b", 5, "again")));
}

fn parked(id: &str, body: &[u8]) -> Parked {
    Parked {
        id: id.to_owned(),
        key: StreamKey::new("contoso / eu", "eset.detections"),
        table: "IntegrationTable_CL".to_owned(),
        at: time(),
        rows: 2,
        bytes: body.len() as u64,
        reason: "the sink answered 503 ü\n".to_owned(),
        body: body.to_vec(),
    }
}

fn without_body(parked: Parked) -> Parked {
    Parked {
        body: Vec::new(),
        ..parked
    }
}

async fn what_is_parked_is_listed_by_id_until_it_is_dropped(one: &dyn Storage, two: &dyn Storage) {
    assert_eq!(one.outbox_size().await.unwrap(), (0, 0));
    assert_eq!(one.parked(10).await.unwrap(), []);
    let long = "[{\"a\":1}]".repeat(100_000).into_bytes();
    let entries = [
        parked("20260102T030406-b", b"[{},{}]"),
        parked("20260102T030405-a", &long),
        parked("20260102T030406-a", b""),
    ];
    for entry in &entries {
        one.park(entry).await.unwrap();
    }
    let by_id = [1, 2, 0].map(|at: usize| without_body(entries[at].clone()));
    assert_eq!(two.parked(usize::MAX).await.unwrap(), by_id);
    assert_eq!(two.parked(2).await.unwrap(), by_id[..2]);
    assert_eq!(two.outbox_size().await.unwrap(), (3, long.len() as u64 + 7));
    for entry in &entries {
        let found = two.parked_rows(&entry.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    assert_eq!(one.parked_rows("20260102T030406").await.unwrap(), None);
    two.drop_parked("20260102T030405-a").await.unwrap();
    one.drop_parked("20260102T030405-a").await.unwrap();
    assert_eq!(one.parked(usize::MAX).await.unwrap(), by_id[1..]);
    assert_eq!(one.outbox_size().await.unwrap(), (2, 7));
    for entry in &entries {
        one.drop_parked(&entry.id).await.unwrap();
    }
    assert_eq!(two.outbox_size().await.unwrap(), (0, 0));
}

async fn parked_rows_stay_as_they_were_first(one: &dyn Storage, two: &dyn Storage) {
    one.park(&parked("same", b"first")).await.unwrap();
    two.park(&parked("same", b"second")).await.unwrap();
    let found = one.parked_rows("same").await.unwrap();
    assert_eq!(found, Some(parked("same", b"first")));
    assert_eq!(one.outbox_size().await.unwrap(), (1, 5));
    one.drop_parked("same").await.unwrap();
}

async fn an_original_is_replaced(one: &dyn Storage, two: &dyn Storage) {
    let original = |version: &str, body: &[u8]| Original {
        key: key("originals"),
        record_id: "id".to_owned(),
        record_version: version.to_owned(),
        body: body.to_vec(),
    };
    one.keep(&[original("1", b"old"), original("2", b"other")])
        .await
        .unwrap();
    two.keep(&[original("1", b"new")]).await.unwrap();
    for (version, body) in [("1", "new"), ("2", "other")] {
        let expected = Some(original(version, body.as_bytes()));
        let found = one.original(&key("originals"), "id", version).await;
        assert_eq!(found.unwrap(), expected);
    }
    for (stream, id, version) in [
        ("originals", "id", "3"),
        ("originals", "x", "1"),
        ("x", "id", "1"),
    ] {
        let found = one.original(&key(stream), id, version).await;
        assert_eq!(found.unwrap(), None);
    }
}

fn asset(connection: &str, kind: AssetKind, id: &str, keys: &[&str], note: &str) -> Entry {
    Entry {
        name: Name {
            connection: connection.to_owned(),
            kind,
            id: id.to_owned(),
        },
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        body: serde_json::json!({ "id": id, "note": note }).to_string(),
    }
}

fn kept(entry: &Entry) -> Change {
    Change::Kept(entry.clone())
}

fn gone(entry: &Entry) -> Change {
    Change::Gone(entry.name.clone())
}

/// The bodies that are found.
async fn assets(storage: &dyn Storage, kind: AssetKind, key: &str) -> Vec<String> {
    let found = storage.assets(kind, key).await.unwrap();
    found.into_iter().map(|entry| entry.body).collect()
}

async fn an_asset_is_found_by_each_key_that_it_has_now(one: &dyn Storage, two: &dyn Storage) {
    const M: AssetKind = AssetKind::Machine;
    one.file_assets(&[]).await.unwrap();
    assert_eq!(assets(one, M, "10.0.0.1").await, [""; 0]);
    let old = asset(
        "default",
        M,
        "m / 'ü' #1",
        &["m1", "10.0.0.1", "2001:db8::7"],
        "old",
    );
    one.file_assets(&[kept(&old)]).await.unwrap();
    for key in &old.keys {
        let mut found = two.assets(M, key).await.unwrap();
        found[0].keys.sort();
        let mut expected = old.clone();
        expected.keys.sort();
        assert_eq!(found, [expected], "{key}");
        assert_eq!(assets(two, AssetKind::Alert, key).await, [""; 0]);
    }
    // Of several changes about one machine the last counts, and old addresses are nobody's.
    let new = Entry {
        keys: ["m1", "10.0.0.2"].map(str::to_owned).into(),
        ..asset("default", M, "m / 'ü' #1", &[], "new")
    };
    let between = asset("default", M, "m / 'ü' #1", &["m1", "10.0.0.3"], "between");
    let changes = [gone(&old), kept(&between), kept(&new)];
    two.file_assets(&changes).await.unwrap();
    for (key, expected) in [
        ("m1", Some(&new)),
        ("10.0.0.2", Some(&new)),
        ("10.0.0.1", None),
        ("10.0.0.3", None),
        ("2001:db8::7", None),
        ("M1", None),
    ] {
        let expected: Vec<String> = expected.iter().map(|entry| entry.body.clone()).collect();
        assert_eq!(assets(one, M, key).await, expected, "{key}");
    }
    one.file_assets(&changes).await.unwrap();
    assert_eq!(assets(one, M, "m1").await, [new.body.as_str()]);
    for _ in 0..2 {
        one.file_assets(&[gone(&new)]).await.unwrap();
        assert_eq!(assets(two, M, "m1").await, [""; 0]);
    }
    two.file_assets(&[kept(&old)]).await.unwrap();
    assert_eq!(assets(one, M, "10.0.0.1").await, [old.body.as_str()]);
    one.file_assets(&[gone(&old)]).await.unwrap();
}

async fn assets_that_share_a_key_are_all_found(one: &dyn Storage, two: &dyn Storage) {
    let machines: Vec<Entry> = [("a", "m2"), ("a", "m3"), ("b", "m2")]
        .map(|(connection, id)| asset(connection, AssetKind::Machine, id, &["10.9.9.9", id], ""))
        .into();
    let filed: Vec<Change> = machines.iter().rev().map(kept).collect();
    one.file_assets(&filed).await.unwrap();
    let mut found = two.assets(AssetKind::Machine, "10.9.9.9").await.unwrap();
    for entry in &mut found {
        entry.keys.sort();
    }
    assert_eq!(found, machines);
    two.file_assets(&[gone(&machines[0])]).await.unwrap();
    let left = one.assets(AssetKind::Machine, "m2").await.unwrap();
    assert_eq!(left[0].name, machines[2].name);
    assert_eq!(left.len(), 1);

    // What is found by its id's beginning, many at once; a key is no prefix of another.
    let vulnerability = |machine: &str, at: usize| {
        let id = format!("{machine}-_-CVE-{at:04}-_-v-_-p");
        asset("a", AssetKind::Vulnerability, &id, &[machine], "")
    };
    let all: Vec<Entry> = (0..300).map(|at| vulnerability("m2", at)).collect();
    let mut changes: Vec<Change> = all.iter().map(kept).collect();
    changes.push(kept(&vulnerability("m22", 0)));
    one.file_assets(&changes).await.unwrap();
    assert_eq!(
        two.assets(AssetKind::Vulnerability, "m2").await.unwrap(),
        all
    );
    let fixed: Vec<Change> = all.iter().skip(1).map(gone).collect();
    two.file_assets(&fixed).await.unwrap();
    assert_eq!(
        one.assets(AssetKind::Vulnerability, "m2").await.unwrap(),
        all[..1]
    );
    assert_eq!(assets(one, AssetKind::Vulnerability, "m22").await.len(), 1);
}

async fn nobody_alive_is_gone(one: &dyn Storage, two: &dyn Storage) {
    assert_ne!(one.owner(), two.owner());
    assert_eq!(one.owner(), one.owner());
    for owner in [one.owner(), two.owner()] {
        assert!(!one.is_gone(&owner).await);
        assert!(!two.is_gone(&owner).await);
    }
}

fn open(folder: &tempfile::TempDir) -> (Arc<EmbeddedFile>, SqliteStorage) {
    let file = EmbeddedFile::open(folder.path()).unwrap();
    let storage = SqliteStorage::new(Arc::clone(&file)).unwrap();
    (file, storage)
}

#[tokio::test]
async fn memory_conforms() {
    let storage = MemoryStorage::new();
    conforms(&storage, &storage.peer()).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let ((_, one), (_, two)) = (open(&folder), open(&folder));
    conforms(&one, &two).await;
}

#[tokio::test]
async fn an_owner_in_memory_is_gone_when_somebody_says_so() {
    let storage = MemoryStorage::new();
    let other = storage.peer();
    storage.mark_gone(&other.owner());
    assert!(storage.is_gone(&other.owner()).await);
    assert!(!storage.is_gone(&storage.owner()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_at_once_exactly_one_wins_each_round() {
    let folder = tempfile::tempdir().unwrap();
    let memory = MemoryStorage::new();
    let [one, two] = Azurite::shared().storage();
    let stores: [Vec<Arc<dyn Storage>>; 3] = [
        vec![Arc::new(one), Arc::new(two)],
        vec![Arc::new(memory.peer()), Arc::new(memory)],
        vec![Arc::new(open(&folder).1), Arc::new(open(&folder).1)],
    ];
    for handles in stores {
        let mut etag = None;
        for round in 0..20 {
            let saves: Vec<_> = (0..8)
                .map(|writer| {
                    let (storage, etag) = (Arc::clone(&handles[writer % 2]), etag.clone());
                    tokio::spawn(async move {
                        let state = state(&format!("{round} {writer}"));
                        let saved = storage.save(&key("raced"), &state, etag.as_ref()).await;
                        (state, saved)
                    })
                })
                .collect();
            let mut won = Vec::new();
            for save in saves {
                match save.await.unwrap() {
                    (state, Ok(etag)) => won.push((state, etag)),
                    (_, Err(error)) => assert_eq!(error, SaveError::Conflict),
                }
            }
            assert_eq!(won.len(), 1);
            let loaded = handles[0].load(&key("raced")).await.unwrap();
            assert_eq!(loaded.as_ref(), won.first());
            etag = loaded.map(|(_, etag)| etag);
        }
    }
}
