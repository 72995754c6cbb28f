//! Commands over a store that holds something: the outbox, dead letters, positions.

use std::{path::PathBuf, process::Command};

use chrono::{DateTime, Utc};
use sentinel_connector::{
    core::{
        mapping::batch::UNSTAMPED,
        position::cursor::{Gap, Position, StreamKey, StreamState},
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
    let letters = store.letters().await;
    assert_eq!(letters.len(), 2, "{letters:?}");
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
