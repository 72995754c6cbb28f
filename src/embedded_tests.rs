use super::*;
use crate::error::Kind;

fn refused(folder: &Path) -> Error {
    EmbeddedFile::open(folder).unwrap_err()
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(EmbeddedFile::open(folder.path()).unwrap());
    let newer = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    newer
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .unwrap();
    let error = refused(folder.path());
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("has schema 2"), "{error}");
    assert_eq!(version(&newer).unwrap(), SCHEMA_VERSION + 1);
}

#[test]
fn a_file_that_is_no_database_is_named_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE_NAME), "not a database".repeat(100)).unwrap();
    let error = refused(folder.path());
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(error.to_string().contains(FILE_NAME), "{error}");
}

#[test]
fn a_path_that_cannot_be_opened_is_named_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let error = refused(&in_the_way);
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("CONNECTOR_DATA"), "{error}");

    let folder = folder.path().join("folder");
    fs::create_dir_all(folder.join(FILE_NAME)).unwrap();
    assert_eq!(refused(&folder).kind(), Kind::Config);
}

#[test]
fn many_can_open_a_new_file_at_once() {
    // A race is lost only now and then.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let opening = [(); 8].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    EmbeddedFile::open(folder.path()).map(drop)
                })
            });
            for one in opening {
                one.join().unwrap().unwrap();
            }
        });
    }
}

#[cfg(unix)]
#[test]
fn folder_and_files_are_the_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let file = EmbeddedFile::open(&folder).unwrap();
    file.with_blocking(|connection| connection.execute_batch("CREATE TABLE t (x)"))
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(file.path()), 0o600);
    assert_eq!(mode(&folder.join("connector.sqlite-wal")), 0o600);
}

#[tokio::test]
async fn a_full_file_is_transient_and_nothing_of_the_transaction_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = EmbeddedFile::open(folder.path()).unwrap();
    file.with(|connection| {
        connection.execute("CREATE TABLE t (x)", [])?;
        connection.pragma_update_and_check(None, "max_page_count", 8, |_| Ok(()))
    })
    .await
    .unwrap();
    let insert = |connection: &mut Connection, bytes: i64| {
        let change = connection.transaction()?;
        change.execute("INSERT INTO t VALUES (1)", [])?;
        change.execute("INSERT INTO t VALUES (zeroblob(?1))", [bytes])?;
        change.commit()
    };
    let error = file
        .with(move |connection| insert(connection, 1 << 20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("free space"), "{error}");
    file.with(move |connection| insert(connection, 1))
        .await
        .unwrap();
    let count = "SELECT count(*) FROM t";
    let count: i64 = file
        .read(move |connection| connection.query_row(count, [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = EmbeddedFile::open(folder.path()).unwrap();
    let error = file
        .read(|connection| connection.execute("CREATE TABLE t (x)", []))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
}

#[tokio::test]
async fn a_panic_inside_does_not_lock_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = EmbeddedFile::open(folder.path()).unwrap();
    let other = Arc::clone(&file);
    let panicked = tokio::spawn(async move {
        other
            .with(|_| -> rusqlite::Result<()> { panic!("on purpose") })
            .await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    file.sync_every_commit().await.unwrap();
    let synchronous: i64 = file
        .with(|connection| connection.pragma_query_value(None, "synchronous", |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(synchronous, 2);
}

/// Everything in a folder: names, bytes, and when they last changed, the folder itself included.
fn all_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push((path.clone(), fs::read(&path).unwrap(), changed(&path)));
    }
    all.push((folder.to_owned(), Vec::new(), changed(folder)));
    all.sort();
    all
}

fn changed(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

async fn sum(file: &EmbeddedFile) -> i64 {
    let sql = "SELECT sum(x) FROM t";
    let with = file.with(move |connection| connection.query_row(sql, [], |row| row.get(0)));
    let with: i64 = with.await.unwrap();
    let read = file.read(move |connection| connection.query_row(sql, [], |row| row.get(0)));
    let read: i64 = read.await.unwrap();
    assert_eq!(with, read);
    with
}

#[tokio::test]
async fn a_reader_leaves_the_folder_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert!(EmbeddedFile::read_only(folder.path()).unwrap().is_none());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let file = EmbeddedFile::open(folder.path()).unwrap();
    let write = |x: i64| {
        file.with(move |connection| {
            connection.execute_batch("CREATE TABLE IF NOT EXISTS t (x)")?;
            connection.execute("INSERT INTO t VALUES (?1)", [x])
        })
    };
    write(1).await.unwrap();
    // Somebody works on it.
    let reader = EmbeddedFile::read_only(folder.path()).unwrap().unwrap();
    assert_eq!(sum(&reader).await, 1);
    write(2).await.unwrap();
    assert_eq!(sum(&reader).await, 3);

    // As a process leaves it that was cut off, and without the index of its log.
    for with_index in [true, false] {
        let copy = tempfile::tempdir().unwrap();
        for name in [
            "connector.sqlite",
            "connector.sqlite-wal",
            "connector.sqlite-shm",
        ] {
            if with_index || !name.ends_with("-shm") {
                fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
            }
        }
        let names = |folder: &Path| -> Vec<PathBuf> {
            let all = all_of(folder).into_iter();
            all.map(|(path, ..)| path).collect()
        };
        let (before, listed) = (all_of(copy.path()), names(copy.path()));
        let reader = EmbeddedFile::read_only(copy.path()).unwrap().unwrap();
        assert_eq!(sum(&reader).await, 3);
        assert_eq!(names(copy.path()), listed);
        if !with_index {
            assert!(all_of(copy.path()) == before, "something has changed");
        }
    }

    // Nobody works on it.
    drop(file);
    let before = all_of(folder.path());
    let reader = EmbeddedFile::read_only(folder.path()).unwrap().unwrap();
    assert_eq!(sum(&reader).await, 3);
    let error = reader.with(|connection| connection.execute("DELETE FROM t", []));
    assert_eq!(error.await.unwrap_err().kind(), Kind::Config);
    assert!(all_of(folder.path()) == before, "something has changed");
}

#[tokio::test]
async fn a_reader_refuses_what_was_written_while_it_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(EmbeddedFile::open(folder.path()).unwrap());
    let reader = EmbeddedFile::read_only(folder.path()).unwrap().unwrap();
    let other = folder.path().to_owned();
    let read = reader.read(move |connection| {
        let file = EmbeddedFile::open(&other).unwrap();
        let table = "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))";
        file.with_blocking(|connection| connection.execute_batch(table))
            .unwrap();
        drop(file);
        connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))
    });
    assert_eq!(read.await.unwrap_err().kind(), Kind::Transient);
}

#[test]
fn a_folder_of_any_name_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a b?c#d%20ü");
    drop(EmbeddedFile::open(&folder).unwrap());
    let reader = EmbeddedFile::read_only(&folder).unwrap().unwrap();
    assert_eq!(
        reader
            .with_blocking(|connection| version(connection))
            .unwrap(),
        SCHEMA_VERSION
    );
}
