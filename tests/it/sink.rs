//! What every sink promises, then what only the embedded one does.

use std::sync::Arc;

use sentinel_connector::{
    core::mapping::{
        batch::{Batch, ROW_HEAD, ROW_TAIL},
        columns::{DETECTIONS, INCIDENTS},
    },
    embedded::EmbeddedFile,
    error::Kind,
    sink::{PushError, Sink, workspace::Workspace},
};

/// A row with these members, which end with a comma when there are any.
pub(crate) fn row(members: &str) -> Vec<u8> {
    let time = "2026-01-01T00:00:00.000Z\",";
    [ROW_HEAD, time, members, ROW_TAIL].concat().into_bytes()
}

pub(crate) fn batch(table: &str, rows: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new(table);
    for row in rows {
        batch.add(row);
    }
    batch.stamp("2026-02-03T04:05:06.789Z".parse().unwrap(), "batch");
    batch
}

pub(crate) fn detections(count: usize) -> Batch {
    let rows: Vec<_> = (0..count)
        .map(|at| row(&format!(r#""recordId":"{at}","#)))
        .collect();
    batch(DETECTIONS.name, &rows)
}

/// Every promise. `bad` is a row that the sink refuses, `count` says how many rows a table has.
pub(crate) async fn conforms(sink: &dyn Sink, bad: &[u8], count: impl AsyncFn(&str) -> u64) {
    sink.push(&detections(3)).await.unwrap();
    assert_eq!(count(DETECTIONS.name).await, 3);
    assert_eq!(count(INCIDENTS.name).await, 0);

    // No key makes a push safe to repeat: the pipeline must not count on one.
    sink.push(&detections(3)).await.unwrap();
    assert_eq!(count(DETECTIONS.name).await, 6);

    sink.push(&Batch::new(DETECTIONS.name)).await.unwrap();
    assert_eq!(count(DETECTIONS.name).await, 6);

    // All rows or none, wherever the bad one is.
    for at in 0..3 {
        let mut rows = vec![row(""), row("")];
        rows.insert(at, bad.to_vec());
        let pushed = sink.push(&batch(DETECTIONS.name, &rows)).await;
        assert!(matches!(pushed, Err(PushError::Refused(_))), "{pushed:?}");
        assert_eq!(count(DETECTIONS.name).await, 6);
    }

    let unknown = batch("Unknown_CL", &[row("")]);
    let Err(PushError::Failed(error)) = sink.push(&unknown).await else {
        panic!("an unknown table")
    };
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("Unknown_CL"), "{error}");

    let incident = batch(INCIDENTS.name, &[row("")]);
    sink.push(&incident).await.unwrap();
    assert_eq!(count(INCIDENTS.name).await, 1);
}

fn open(folder: &tempfile::TempDir) -> (Arc<EmbeddedFile>, Workspace) {
    let file = EmbeddedFile::open(folder.path()).unwrap();
    let workspace = Workspace::new(Arc::clone(&file)).unwrap();
    (file, workspace)
}

async fn query(workspace: &Workspace, sql: &str) -> Vec<Vec<String>> {
    let answer = workspace.query(sql).await.unwrap();
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    answer
        .rows
        .into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

#[tokio::test]
async fn the_workspace_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (_, workspace) = open(&folder);
    let bad = row(r#""resolved":{},"#);
    conforms(&workspace, &bad, async |table| {
        workspace.count(table).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn every_type_comes_back_as_sql_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_, workspace) = open(&folder);
    let members = concat!(
        r#""displayName":"a \"quoted\" ü","groupSize":-7,"resolved":true,"#,
        r#""eventTime":"2026-01-01T00:00:00.1234567Z","#,
        r#""detectionUuid":"plain","context":{"a":[1,"x"]},"responses":[],"note":null,"#,
    );
    workspace
        .push(&batch(DETECTIONS.name, &[row(members)]))
        .await
        .unwrap();
    let sql = "SELECT TimeGenerated, displayName, groupSize + 0, resolved = 1, eventTime,
               detectionUuid, json_extract(context, '$.a[1]'), responses, note, category,
               batchId, typeof(groupSize) FROM IntegrationTable_CL";
    let expected = [
        "2026-02-03T04:05:06.789Z",
        "a \"quoted\" ü",
        "-7",
        "1",
        "2026-01-01T00:00:00.1234567Z",
        "plain",
        "x",
        "[]",
        "NULL",
        "NULL",
        "batch00000000000",
        "integer",
    ];
    assert_eq!(query(&workspace, sql).await, [expected]);
}

#[tokio::test]
async fn a_refusal_names_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let (_, workspace) = open(&folder);
    let rows = [row(""), row(r#""notAColumn":1,"#)];
    let Err(PushError::Refused(why)) = workspace.push(&batch(DETECTIONS.name, &rows)).await else {
        panic!("an unknown column")
    };
    for part in ["row 1", DETECTIONS.name, "notAColumn"] {
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn a_missing_column_is_added_and_a_foreign_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = EmbeddedFile::open(folder.path()).unwrap();
    file.with(|connection| {
        connection.execute_batch(
            "CREATE TABLE IntegrationTable_CL (TimeGenerated TEXT, mine TEXT, recordId TEXT);
             INSERT INTO IntegrationTable_CL VALUES ('then', 'kept', 'old')",
        )
    })
    .await
    .unwrap();
    let workspace = Workspace::new(file).unwrap();
    workspace.push(&detections(1)).await.unwrap();
    let sql = "SELECT recordId, mine, batchId FROM IntegrationTable_CL ORDER BY rowid";
    assert_eq!(
        query(&workspace, sql).await,
        [["old", "kept", "NULL"], ["0", "NULL", "batch00000000000"]]
    );
}

#[tokio::test]
async fn a_full_disk_is_transient_and_takes_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let (file, workspace) = open(&folder);
    let limit = |pages: i64| {
        file.with(move |connection| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        })
    };
    limit(1).await.unwrap(); // what is there already, and no page more
    let many = detections(1_000);
    let Err(PushError::Failed(error)) = workspace.push(&many).await else {
        panic!("a full disk")
    };
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(workspace.count(DETECTIONS.name).await.unwrap(), 0);
    limit(100_000).await.unwrap();
    workspace.push(&many).await.unwrap();
    assert_eq!(workspace.count(DETECTIONS.name).await.unwrap(), 1_000);
}

#[tokio::test]
async fn a_query_reads_and_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let (_, workspace) = open(&folder);
    workspace.push(&detections(2)).await.unwrap();
    let answer = workspace
        .query("SELECT count(*) AS n, 1.5, x'6869', NULL FROM IntegrationTable_CL")
        .await
        .unwrap();
    assert_eq!(answer.columns, ["n", "1.5", "x'6869'", "NULL"]);
    let row = [Some("2"), Some("1.5"), Some("hi"), None];
    assert_eq!(answer.rows, [row.map(|value| value.map(str::to_owned))]);

    for (sql, why) in [
        ("DELETE FROM IntegrationTable_CL", "readonly"),
        ("SELECT nothing FROM IntegrationTable_CL", "nothing"),
        ("no sql", "syntax"),
    ] {
        let error = workspace.query(sql).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(workspace.count(DETECTIONS.name).await.unwrap(), 2);
    let unknown = workspace.count("sqlite_schema").await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::Config);
}

#[tokio::test]
async fn a_record_is_found_by_index() {
    let folder = tempfile::tempdir().unwrap();
    let (_, workspace) = open(&folder);
    for table in [DETECTIONS.name, INCIDENTS.name] {
        for (filter, index) in [
            (
                "connectionName = 'a' AND streamName = 'b' AND recordId = 'c'",
                "record",
            ),
            ("eventTime > '2026'", "eventTime"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT batchId FROM {table} WHERE {filter}");
            let plan = query(&workspace, &sql).await.concat().join(" ");
            assert!(plan.contains(&format!("{table}_{index}")), "{plan}");
        }
    }
}
