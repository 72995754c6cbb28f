//! What only the embedded store promises.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use sentinel_connector::{
    core::position::snapshot::Sighting,
    embedded::EmbeddedFile,
    error::Kind,
    storage::{SaveError, Storage, sqlite::SqliteStorage},
};

use super::{NONE, found, key, log, one_damaged_state_hides_no_other, open, state};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, storage) = open(&folder);
    let etag = {
        let storage: &dyn Storage = &storage;
        let added = [(1, vec![1, 2])];
        storage.add_fingerprints("set", &added).await.unwrap();
        storage.save(&key("kept"), &state("a"), None).await.unwrap()
    };
    drop((file, storage));
    let (_, storage) = open(&folder);
    let storage: &dyn Storage = &storage;
    let loaded = storage.load(&key("kept")).await.unwrap();
    assert_eq!(loaded, Some((state("a"), etag)));
    assert_eq!(found(storage, "set", 1).await, [1, 2]);
}

#[tokio::test]
async fn fingerprints_are_added_to_all_buckets_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let (file, storage) = open(&folder);
    file.with(|connection| {
        connection.execute_batch(
            "CREATE TRIGGER fails BEFORE INSERT ON connector_fingerprints WHEN NEW.bucket = 13
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
        )
    })
    .await
    .unwrap();
    let storage: &dyn Storage = &storage;
    let added = [(12, vec![1]), (13, vec![2])];
    let error = storage.add_fingerprints("set", &added).await.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!(found(storage, "set", 12).await, NONE);
}

#[tokio::test]
async fn a_full_disk_is_transient_and_the_state_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (file, storage) = open(&folder);
    let storage: &dyn Storage = &storage;
    let etag = storage.save(&key("a"), &state("a"), None).await.unwrap();
    let limit = |pages: i64| {
        file.with(move |connection| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        })
    };
    limit(1).await.unwrap(); // what is there already, and no page more
    let long = state(&"x".repeat(100_000));
    let Err(SaveError::Failed(error)) = storage.save(&key("a"), &long, Some(&etag)).await else {
        panic!("a full disk")
    };
    assert_eq!(error.kind(), Kind::Transient);
    assert!(error.to_string().contains("free space"), "{error}");
    let loaded = storage.load(&key("a")).await.unwrap();
    assert_eq!(loaded, Some((state("a"), etag.clone())));
    limit(100_000).await.unwrap();
    let saved = storage.save(&key("a"), &long, Some(&etag)).await;
    saved.unwrap();
}

#[tokio::test]
async fn a_damaged_state_is_named_with_the_fix_and_can_be_reset() {
    let folder = tempfile::tempdir().unwrap();
    let (file, storage) = open(&folder);
    let storage: &dyn Storage = &storage;
    let saved = storage.save(&key("bad"), &state("a"), None).await;
    saved.unwrap();
    for (json, expected) in [
        (r#"{"version":1,"position":"secret"}"#, "cursor reset"),
        ("nonsense", "cursor reset"),
        (r#"{"version":2,"position":{"new":1}}"#, "schema 2"),
    ] {
        file.with(move |connection| {
            connection.execute("UPDATE connector_state SET state = ?1", [json])
        })
        .await
        .unwrap();
        let error = storage.load(&key("bad")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(text.contains("default/bad"), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    storage.forget(&key("bad")).await.unwrap();
    assert_eq!(storage.load(&key("bad")).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_damaged_hides_none_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (file, storage) = open(&folder);
    let storage: &dyn Storage = &storage;
    for name in ["a", "bad", "c"] {
        storage.save(&key(name), &state(name), None).await.unwrap();
    }
    let prints = [(1, vec![1]), (2, vec![2])];
    storage.add_fingerprints("set", &prints).await.unwrap();
    let seen = Sighting {
        id: "machine".to_owned(),
        content: 7,
        missed: false,
    };
    for set in ["torn", "whole"] {
        storage
            .add_sightings(set, 7, std::slice::from_ref(&seen))
            .await
            .unwrap();
    }
    file.with(|connection| {
        connection.execute_batch(
            "UPDATE connector_state SET state = x'ff00' || 'torn' WHERE stream = 'bad';
             UPDATE connector_fingerprints SET hashes = 7 WHERE bucket = 1;
             UPDATE connector_sightings SET sightings = x'00' || sightings WHERE name = 'torn'",
        )
    })
    .await
    .unwrap();
    one_damaged_state_hides_no_other(storage, "torn").await;
    assert_eq!(found(storage, "set", 1).await, NONE);
    assert_eq!(found(storage, "set", 2).await, [2]);
    assert_eq!(log(storage, "whole", 7).await, [seen]);
    let error = storage.sightings("torn", 7, 0).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("over `torn`"), "{error}");
    assert!(error.to_string().contains("cursor reset"), "{error}");
}

#[tokio::test]
async fn the_owner_of_a_dropped_store_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let ((_, one), (_, two)) = (open(&folder), open(&folder));
    let (one, two): (Box<dyn Storage>, Box<dyn Storage>) = (Box::new(one), Box::new(two));
    let owner = two.owner();
    assert!(!one.is_gone(&owner).await);
    drop(two);
    assert!(one.is_gone(&owner).await);
    // A third one clears up after the second, and leaves the first alone.
    let (_, three) = open(&folder);
    let three: &dyn Storage = &three;
    assert!(!three.is_gone(&one.owner()).await);
}

#[tokio::test]
async fn the_owner_of_a_killed_process_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (_, storage) = open(&folder);
    let storage: &dyn Storage = &storage;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::sqlite::child_that_waits_to_be_killed"])
        .args(["--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", folder.path().display()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let owner = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("owner=")?.1.to_owned()))
        .unwrap();
    assert!(!storage.is_gone(&owner).await);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(storage.is_gone(&owner).await);
}

#[tokio::test]
#[ignore = "the other half of the_owner_of_a_killed_process_is_gone, which starts it"]
async fn child_that_waits_to_be_killed() {
    let mut stdin = std::io::stdin().lock();
    let mut folder = String::new();
    stdin.read_line(&mut folder).unwrap();
    if folder.is_empty() {
        return;
    }
    let file = EmbeddedFile::open(folder.trim().as_ref()).unwrap();
    let storage = SqliteStorage::new(file).unwrap();
    let storage: &dyn Storage = &storage;
    println!("\nowner={}", storage.owner());
    drop(stdin.read_to_end(&mut Vec::new()));
}
