//! Commands over a store that holds something: the outbox, dead letters, positions.

use std::{path::PathBuf, process::Command};

use chrono::{DateTime, Utc};
use sentinel_connector::{
    core::{
        mapping::batch::UNSTAMPED,
        position::{
            cursor::{Gap, OpenSlice, Position, StreamKey, StreamState},
            paging::Page,
        },
    },
    embedded::EmbeddedFile,
    sink::workspace::Workspace,
    storage::{DeadLetter, DeadLetters, Outbox, Parked, StateStore, sqlite::SqliteStorage},
};
use tempfile::TempDir;

use crate::world::at;

const TABLE: &str = "IntegrationTable_CL";

/// Two entries of the outbox.
const OLDER: &str = "20260302T080000000000000-older";
const NEWER: &str = "20260302T090000000000000-newer";

/// A letter that is a row, one that is a row which no table takes, and one that is no row.
const ROW: &str = "00000000000000aa";
const WRONG: &str = "00000000000000bb";
const RUBBISH: &str = "00000000000000cc";

/// A row with these members, as it waits for its time and its batch.
fn row_of(members: &str) -> String {
    format!(r#"{{"TimeGenerated":"{UNSTAMPED}",{members},"batchId":"0000000000000000"}}"#)
}

fn row(id: &str) -> String {
    row_of(&format!(
        r#""providerName":"ESET","streamName":"eset.detections","recordId":"{id}""#
    ))
}

fn key() -> StreamKey {
    StreamKey::new("default", "eset.detections")
}

fn began() -> DateTime<Utc> {
    at("2026-03-02T08:00:00Z")
}

/// An embedded file, and the commands over it, without any setting.
struct Store {
    folder: TempDir,
}

impl Store {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("connector-data")
    }

    fn storage(&self) -> SqliteStorage {
        SqliteStorage::new(EmbeddedFile::open(&self.file()).unwrap()).unwrap()
    }

    async fn park(&self, id: &str, rows: &[&str]) {
        let rows: Vec<String> = rows.iter().map(|id| row(id)).collect();
        let body = format!("[{}]", rows.join(",")).into_bytes();
        let parked = Parked {
            id: id.to_owned(),
            key: key(),
            table: TABLE.to_owned(),
            at: began(),
            rows: rows.len() as u64,
            bytes: body.len() as u64,
            reason: "an outage".to_owned(),
            body,
        };
        self.storage().park(&parked).await.unwrap();
    }

    async fn bury(&self, id: &str, body: &str) {
        let letter = DeadLetter {
            id: id.to_owned(),
            key: key(),
            table: TABLE.to_owned(),
            at: began(),
            reason: "refused once".to_owned(),
            body: body.as_bytes().to_vec(),
        };
        self.storage().bury(&[letter]).await.unwrap();
    }

    /// The exit code, and all that was printed.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
            .args(arguments)
            .env_clear()
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(printed).unwrap())
    }

    /// What a command prints that goes well.
    fn well(&self, arguments: &[&str]) -> String {
        let (code, printed) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {printed}");
        printed
    }

    /// What a command prints that ends with this code.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let (found, printed) = self.run(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {printed}");
        printed
    }

    async fn waiting(&self) -> Vec<String> {
        let parked = self.storage().parked(100).await.unwrap().into_iter();
        parked.map(|entry| entry.id).collect()
    }

    async fn letters(&self) -> Vec<String> {
        let letters = self.storage().dead_letters(100).await.unwrap();
        let mut ids: Vec<String> = letters.into_iter().map(|letter| letter.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The records that have landed.
    async fn landed(&self) -> Vec<String> {
        let workspace = Workspace::new(EmbeddedFile::open(&self.file()).unwrap()).unwrap();
        let sql =
            format!("SELECT recordId FROM {TABLE} WHERE providerName = 'ESET' ORDER BY recordId");
        let rows = workspace.query(&sql).await.unwrap().rows.into_iter();
        rows.map(|mut row| row[0].take().unwrap()).collect()
    }
}

#[tokio::test]
async fn the_push_runs_by_its_name_without_a_connection() {
    let store = Store::new();
    store.park(OLDER, &["a", "b"]).await;
    let printed = store.well(&["run", "SentinelPush"]);
    assert!(printed.contains("connector.push"), "{printed}");
    assert_eq!(store.landed().await, ["a", "b"]);
    assert!(store.waiting().await.is_empty());
    // Again: there is nothing to do, which is well.
    store.well(&["run", "SentinelPush", "--once"]);
    // Functions that pull have nothing to pull from, and say so.
    for arguments in [&["run"] as &[&str], &["run", "EsetTimer"]] {
        let printed = store.fails(arguments, 1);
        assert!(printed.contains("no connection is configured"), "{printed}");
    }
}

#[tokio::test]
async fn what_waits_is_shown_and_dropped_by_its_name_and_the_rest_is_pushed() {
    let store = Store::new();
    store.park(OLDER, &["a", "b"]).await;
    store.park(NEWER, &["c"]).await;
    let listed = store.well(&["outbox", "list"]);
    let lines = |id: &str| listed.lines().position(|line| line.contains(id));
    assert!(lines(OLDER).unwrap() < lines(NEWER).unwrap(), "{listed}");
    assert!(listed.contains("an outage"), "{listed}");
    let shown = store.well(&["outbox", "show", OLDER]);
    assert_eq!(shown.trim_end(), format!("[{},{}]", row("a"), row("b")));

    // Nothing goes that was not named, or not as it is named.
    store.fails(&["outbox", "drop"], 2);
    for command in ["show", "drop"] {
        let printed = store.fails(&["outbox", command, "2026"], 1);
        assert!(
            printed.contains("there is no outbox entry `2026`"),
            "{printed}"
        );
    }
    assert_eq!(store.waiting().await, [OLDER, NEWER]);

    let printed = store.well(&["outbox", "drop", OLDER]);
    let expected = format!("{OLDER}: 2 rows of default/eset.detections dropped");
    assert_eq!(printed.trim_end(), expected);
    assert_eq!(store.waiting().await, [NEWER]);
    assert!(store.landed().await.is_empty());

    let printed = store.well(&["outbox", "retry"]);
    assert!(printed.contains("connector.push"), "{printed}");
    assert_eq!(store.landed().await, ["c"]);
    assert!(store.well(&["outbox", "list"]).contains("nothing waits"));
}

#[tokio::test]
async fn dead_letters_are_shown_tried_again_and_dropped_by_their_names() {
    let store = Store::new();
    store.bury(ROW, &row("a")).await;
    store.bury(WRONG, &row_of(r#""noColumn":7"#)).await;
    store.bury(RUBBISH, "seven").await;
    let listed = store.well(&["dead", "list"]);
    for id in [ROW, WRONG, RUBBISH] {
        assert!(listed.contains(id), "{listed}");
    }
    assert_eq!(store.well(&["dead", "show", RUBBISH]).trim_end(), "seven");

    store.fails(&["dead", "drop"], 2);
    store.fails(&["dead", "retry"], 2);
    for command in ["show", "drop", "retry"] {
        let printed = store.fails(&["dead", command, "0000"], 1);
        assert!(
            printed.contains("there is no letter entry `0000`"),
            "{printed}"
        );
    }
    let printed = store.fails(&["dead", "retry", RUBBISH], 1);
    assert!(printed.contains("is no row"), "{printed}");
    assert_eq!(store.letters().await, [ROW, WRONG, RUBBISH]);

    // Into the outbox, and from there to the table; what is refused again is a letter again.
    let printed = store.well(&["dead", "retry", ROW, WRONG]);
    assert_eq!(printed.matches("waits in the outbox").count(), 2);
    assert_eq!(store.letters().await, [RUBBISH]);
    let listed = store.well(&["outbox", "list"]);
    assert!(listed.contains("refused once"), "{listed}");
    store.well(&["outbox", "retry"]);
    assert_eq!(store.landed().await, ["a"]);
    assert!(store.waiting().await.is_empty());
    // The same letter, however often it is tried.
    for _ in 0..2 {
        assert_eq!(store.letters().await, [WRONG, RUBBISH]);
        store.well(&["dead", "retry", WRONG]);
        store.well(&["outbox", "retry"]);
    }
    assert_eq!(store.letters().await, [WRONG, RUBBISH]);
    assert!(store.well(&["dead", "list"]).contains("noColumn"));

    let printed = store.well(&["dead", "drop", RUBBISH]);
    assert!(
        printed.contains("a letter of default/eset.detections dropped"),
        "{printed}"
    );
    assert_eq!(store.letters().await.len(), 1);
}

#[tokio::test]
async fn a_reset_forgets_the_position_and_neither_gaps_nor_a_pause() {
    let store = Store::new();
    let gap = Gap {
        from: began(),
        to: at("2026-03-02T09:00:00Z"),
        why: "a token was refused".to_owned(),
    };
    let state = StreamState {
        position: Some(Position::Time(began())),
        complete_until: Some(began()),
        history_start: Some(began()),
        paused: Some(began()),
        gaps: vec![gap.clone()],
        ..StreamState::default()
    };
    store.storage().save(&key(), &state, None).await.unwrap();
    let printed = store.well(&["cursor", "reset", "eset.detections"]);
    assert!(
        printed.contains("the next run is a first run, once it is resumed"),
        "{printed}"
    );
    let (state, _) = store.storage().load(&key()).await.unwrap().unwrap();
    let kept = StreamState {
        paused: Some(began()),
        gaps: vec![gap],
        ..StreamState::default()
    };
    assert_eq!(state, kept);
    let shown = store.well(&["cursor", "show"]);
    for sentence in ["is paused since", "a token was refused"] {
        assert!(shown.contains(sentence), "{shown}");
    }

    // Without a pause the next run comes by itself.
    store.well(&["cursor", "resume", "eset.detections"]);
    let printed = store.well(&["cursor", "reset", "eset.detections"]);
    assert!(printed.trim_end().ends_with("a first run"), "{printed}");
}

/// Makes a saved state unreadable.
async fn damage(store: &Store, key: &StreamKey, text: &'static str) {
    let stream = key.stream.clone();
    let file = EmbeddedFile::open(&store.file()).unwrap();
    file.with(move |connection| {
        let sql = "UPDATE connector_state SET state = CAST(?1 AS BLOB) WHERE stream = ?2";
        connection.execute(sql, [text, &stream])
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_damaged_state_hides_no_other_and_a_reset_mends_it_and_keeps_its_text() {
    let store = Store::new();
    let keys = [
        "default/eset.detections",
        "default/eset.incidents",
        "all/connector.push",
    ];
    let keys = keys.map(|key| {
        let (connection, stream) = key.split_once('/').unwrap();
        StreamKey::new(connection, stream)
    });
    let state = StreamState {
        position: Some(Position::Time(began())),
        complete_until: Some(began()),
        ..StreamState::default()
    };
    for key in &keys {
        store.storage().save(key, &state, None).await.unwrap();
    }
    let text = r#"{"version":1,"position":"lost","good":"2026-03-02T08:00:00Z","paused":"2026-03-02T08:00:00Z"}"#;
    damage(&store, &keys[0], text).await;
    damage(&store, &keys[2], "nonsense").await;
    // All are shown, and a script knows by the code.
    let shown = store.fails(&["cursor", "show"], 1);
    assert!(
        shown.contains("has read everything until 2026-03-02"),
        "{shown}"
    );
    for key in &keys {
        assert!(shown.contains(&key.stream), "{shown}");
    }
    let fix = "cursor reset eset.detections --connection default";
    assert!(shown.contains(fix), "{shown}");
    let whole = store.well(&["cursor", "show", "eset.incidents"]);
    assert!(!whole.contains("damaged"), "{whole}");

    let printed = store.well(&["cursor", "reset", "eset.detections"]);
    assert!(printed.contains("kept as dead letter"), "{printed}");
    assert!(
        printed.contains("a first run, once it is resumed"),
        "{printed}"
    );
    let (mended, _) = store.storage().load(&keys[0]).await.unwrap().unwrap();
    assert_eq!((mended.position, mended.paused), (None, Some(began())));
    let [gap] = &mended.gaps[..] else {
        panic!("one gap: {:?}", mended.gaps)
    };
    assert_eq!(gap.from, began());
    let [letter] = &store.letters().await[..] else {
        panic!("one letter")
    };
    assert_eq!(store.well(&["dead", "show", letter]).trim_end(), text);
    let printed = store.fails(&["dead", "retry", letter], 1);
    assert!(printed.contains("is no row"), "{printed}");

    // The lease of the push is no stream, and yet one that can be damaged.
    store.park(OLDER, &["a"]).await;
    let printed = store.fails(&["outbox", "retry"], 1);
    assert!(
        printed.contains("cursor reset connector.push --connection all"),
        "{printed}"
    );
    store.well(&["cursor", "reset", "connector.push", "--connection", "all"]);
    store.well(&["outbox", "retry"]);
    assert_eq!(store.landed().await, ["a"]);
}

/// It is the state of a stream and yet none that can be gone on from: which text is a page only its
/// stream can tell.
#[tokio::test]
async fn a_page_that_is_none_of_its_streams_is_a_damaged_state() {
    let store = Store::new();
    let key = StreamKey::new("default", "defender.machines");
    let mut state = StreamState {
        position: Some(Position::Time(began())),
        complete_until: Some(began()),
        open: Some(OpenSlice {
            page: Page::Skip(20_000, None),
            ..OpenSlice::of_pass(began())
        }),
        ..StreamState::default()
    };
    let etag = store.storage().save(&key, &state, None).await.unwrap();
    let shown = store.well(&["cursor", "show"]);
    assert!(shown.contains("in the middle of a pass"), "{shown}");

    state.open = Some(OpenSlice {
        page: Page::Token("all".to_owned()),
        ..OpenSlice::of_pass(began())
    });
    let saved = store.storage().save(&key, &state, Some(&etag)).await;
    saved.unwrap();
    let shown = store.well(&["cursor", "show"]);
    let fix = "cursor reset defender.machines --connection default";
    assert!(
        shown.contains("is damaged") && shown.contains(fix),
        "{shown}"
    );

    let printed = store.well(&["cursor", "reset", "defender.machines"]);
    assert!(printed.contains("kept as dead letter"), "{printed}");
    let (mended, _) = store.storage().load(&key).await.unwrap().unwrap();
    assert_eq!((mended.position, mended.open), (None, None));
    let [gap] = &mended.gaps[..] else {
        panic!("one gap: {:?}", mended.gaps)
    };
    assert_eq!(gap.from, began());
}

#[tokio::test]
async fn a_damaged_entry_blocks_no_other_and_becomes_a_dead_letter() {
    let store = Store::new();
    store.park(OLDER, &["a"]).await;
    store.park(NEWER, &["c"]).await;
    store.bury(ROW, &row("r")).await;
    let file = EmbeddedFile::open(&store.file()).unwrap();
    file.with(|connection| {
        connection.execute_batch(&format!(
            "UPDATE connector_outbox SET at = 'never', rows = 'many', body = 'torn'
             WHERE id = '{OLDER}';
             UPDATE connector_dead_letters SET at = 'never'"
        ))
    })
    .await
    .unwrap();
    drop(file);
    let listed = store.well(&["outbox", "list"]);
    assert!(listed.contains(OLDER) && listed.contains(NEWER), "{listed}");
    assert!(listed.contains("damaged by somebody else"), "{listed}");
    let listed = store.well(&["dead", "list"]);
    assert!(
        listed.contains(ROW) && listed.contains("damaged"),
        "{listed}"
    );
    let printed = store.well(&["outbox", "retry"]);
    assert!(!printed.contains("years"), "{printed}");
    assert_eq!(store.landed().await, ["c"]);
    let letters = store.letters().await;
    assert_eq!(letters.len(), 2, "{letters:?}");
    let torn = letters.iter().find(|id| *id != ROW).unwrap();
    assert_eq!(store.well(&["dead", "show", torn]).trim_end(), "torn");
    store.well(&["dead", "retry", ROW]);
    store.well(&["outbox", "retry"]);
    assert_eq!(store.landed().await, ["c", "r"]);
}

/// Everything in a folder: names, bytes, and when they last changed, folders included.
fn all_of(folder: &std::path::Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let changed = std::fs::metadata(folder).unwrap().modified().unwrap();
    let mut all = vec![(folder.to_owned(), Vec::new(), changed)];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(all_of(&path));
        } else {
            let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
            all.push((path.clone(), std::fs::read(&path).unwrap(), changed));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn who_only_looks_leaves_the_folder_as_it_is() {
    let store = Store::new();
    let shown = store.well(&["cursor", "show"]);
    assert!(shown.contains("no run has been saved yet"), "{shown}");
    assert!(!store.file().exists(), "a question made a folder");

    store.park(OLDER, &["a"]).await;
    store.well(&["run", "SentinelPush"]);
    let state = StreamState {
        position: Some(Position::Time(began())),
        ..StreamState::default()
    };
    store.storage().save(&key(), &state, None).await.unwrap();
    let before = all_of(&store.file());
    let shown = store.well(&["cursor", "show"]);
    assert!(shown.contains("eset.detections"), "{shown}");
    let found = store.well(&["query", &format!("SELECT recordId FROM {TABLE}")]);
    assert!(found.contains('a'), "{found}");
    assert!(all_of(&store.file()) == before, "something has changed");
}

/// Ends the shell where the kernel lets nobody mount.
const NO_MOUNT: i32 = 77;

/// A mount that may only be read binds root as well, which permissions do not.
#[tokio::test]
async fn a_store_on_a_read_only_mount_is_shown_and_who_writes_is_told_the_setting() {
    let store = Store::new();
    store.park(OLDER, &["a"]).await;
    store.well(&["run", "SentinelPush"]);
    let state = StreamState {
        position: Some(Position::Time(began())),
        ..StreamState::default()
    };
    store.storage().save(&key(), &state, None).await.unwrap();
    let before = all_of(&store.file());
    let read_only = |arguments: &[&str]| {
        let script = format!(
            "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" || exit {NO_MOUNT}; \
             exec \"$@\""
        );
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(store.file())
            .arg(env!("CARGO_BIN_EXE_sentinel-connector"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .current_dir(store.folder.path())
            .output();
        match output {
            Ok(output) => {
                let printed = [output.stdout, output.stderr].concat();
                (output.status.code(), String::from_utf8(printed).unwrap())
            }
            Err(error) => (Some(NO_MOUNT), error.to_string()),
        }
    };
    let (code, shown) = read_only(&["cursor", "show"]);
    if code == Some(NO_MOUNT) || shown.starts_with("unshare:") {
        eprintln!("SKIPPED: nothing can be mounted here: {shown}");
        return;
    }
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("eset.detections"), "{shown}");
    let (code, found) = read_only(&["query", &format!("SELECT recordId FROM {TABLE}")]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains('a'), "{found}");
    for writes in [
        &["run", "SentinelPush"] as &[&str],
        &["cursor", "pause", "eset.detections"],
        &["outbox", "retry"],
    ] {
        let (code, said) = read_only(writes);
        assert_eq!(code, Some(1), "{writes:?}: {said}");
        assert!(
            said.contains("Read-only") && said.contains("CONNECTOR_DATA"),
            "{writes:?}: {said}"
        );
    }
    assert!(all_of(&store.file()) == before, "something has changed");
}
