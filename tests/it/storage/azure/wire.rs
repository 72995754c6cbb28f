//! Where Azure answers otherwise than the emulator: each difference as a stranger meets it, and what
//! the store makes of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use ring::hmac;
use sentinel_connector::{
    core::position::snapshot::Sighting,
    error::Kind,
    io::{
        clock::{Clock, SystemClock},
        http::Request,
    },
    storage::{
        Storage,
        azure::{
            AzureStorage, CONTAINER, STATE_TABLE,
            table::{Key, Properties, Query, Written},
        },
    },
};
use serde_json::{Value, json};

use super::super::{found, key, letter, log, one_damaged_state_hides_no_other, parked, state};
use crate::azurite::{Azurite, network, parsed, signed_in, wire};

/// An account, as one who speaks to it without the store.
struct Stranger {
    account: String,
    key: hmac::Key,
    tables: String,
    blobs: String,
    storage: AzureStorage,
}

/// Status, name of the error, and body.
type Answer = (u16, String, String);

impl Stranger {
    fn new() -> Self {
        let (account, key) = Azurite::shared().unused();
        let settings = parsed(&Azurite::shared().connection_string(&account, &key));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap()),
            account,
            tables: settings.table_url.clone(),
            blobs: settings.blob_url.clone(),
            storage: AzureStorage::new(signed_in(settings), wire()),
        }
    }

    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    /// A request for a blob of the store's container, signed.
    async fn blob(
        &self,
        method: Method,
        path: &str,
        query: Option<(&str, &str)>,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let now = SystemClock.now();
        let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut signed = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2020-12-06")];
        signed.extend(headers);
        signed.sort_unstable();
        let length = match body.len() {
            0 => String::new(),
            length => length.to_string(),
        };
        let mut text = format!("{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n");
        for (name, value) in &signed {
            text.extend([name, ":", value, "\n"]);
        }
        let path = format!("/{CONTAINER}/{path}");
        text.extend(["/", &self.account, "/", &self.account, &path]);
        let mut url = format!("{}{path}", self.blobs);
        if let Some((name, value)) = query {
            text.extend(["\n", name, ":", value]);
            url.extend(["?", name, "=", value]);
        }
        let signature = STANDARD.encode(hmac::sign(&self.key, text.as_bytes()));
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .header("content-length", body.len())
            .header(
                "authorization",
                format!("SharedKey {}:{signature}", self.account),
            );
        for (name, value) in signed {
            request = request.header(name, value);
        }
        sent(request.body(body.into()).unwrap()).await
    }

    /// Creates an empty append blob, as a process leaves it that dies before its first append.
    async fn empty_append_blob(&self, path: &str) {
        let kind = [("x-ms-blob-type", "AppendBlob")];
        let (status, code, _) = self.blob(Method::PUT, path, None, &kind, Vec::new()).await;
        assert_eq!((status, code.as_str()), (201, ""));
    }

    /// A request to the tables, which is refused before anybody looks who sent it.
    async fn table(&self, method: Method, path: &str, body: String) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.tables));
        sent(request.body(body.into()).unwrap()).await
    }
}

async fn sent(request: Request) -> Answer {
    let answer = network().send(request).await.unwrap();
    let status = answer.status.as_u16();
    let code = answer.header("x-ms-error-code").unwrap_or("").to_owned();
    let body = answer.whole_body().await.unwrap();
    (status, code, String::from_utf8_lossy(&body).into_owned())
}

fn sighting(id: &str) -> Sighting {
    Sighting {
        id: id.to_owned(),
        content: 7,
        missed: false,
    }
}

#[tokio::test]
async fn a_range_that_begins_at_the_end_is_no_range_and_a_log_ends_there() {
    let stranger = Stranger::new();
    let storage = stranger.storage();
    let all = [sighting("a"), sighting("b")];
    storage.add_sightings("set", 7, &all).await.unwrap();
    let path = "sightings/set/7.0";
    let range = |range| {
        let stranger = &stranger;
        async move {
            let range = [("x-ms-range", range)];
            stranger
                .blob(Method::GET, path, None, &range, Vec::new())
                .await
        }
    };
    // Two heads of 13 bytes, two ids of one.
    assert_eq!(range("bytes=27-99").await.0, 206);
    for beyond in ["bytes=28-99", "bytes=29-99", "bytes=900-999"] {
        let (status, code, _) = range(beyond).await;
        assert_eq!((status, code.as_str()), (416, "InvalidRange"), "{beyond}");
    }
    assert_eq!(log(storage, "set", 7).await, all);
}

#[tokio::test]
async fn an_append_blob_without_bytes_is_an_empty_log_and_an_empty_bucket() {
    let stranger = Stranger::new();
    let storage = stranger.storage();
    storage
        .add_sightings("set", 1, &[sighting("x")])
        .await
        .unwrap();
    stranger.empty_append_blob("sightings/set/7.0").await;
    stranger.empty_append_blob("fingerprints/set/7.0").await;
    let range = [("x-ms-range", "bytes=0-99")];
    let path = "sightings/set/7.0";
    let (status, code, _) = stranger
        .blob(Method::GET, path, None, &range, Vec::new())
        .await;
    assert_eq!((status, code.as_str()), (416, "InvalidRange"));

    assert_eq!(log(storage, "set", 7).await, []);
    assert_eq!(found(storage, "set", 7).await, [] as [u64; 0]);
    storage
        .add_sightings("set", 7, &[sighting("y")])
        .await
        .unwrap();
    storage
        .add_fingerprints("set", &[(7, vec![1])])
        .await
        .unwrap();
    assert_eq!(log(storage, "set", 7).await, [sighting("y")]);
    assert_eq!(found(storage, "set", 7).await, [1]);
}

#[tokio::test]
async fn more_than_a_thousand_entities_a_page_are_refused_and_never_asked_for() {
    let stranger = Stranger::new();
    let path = "/some()?$top=1001";
    let (status, _, body) = stranger.table(Method::GET, path, String::new()).await;
    assert_eq!(status, 400);
    assert!(body.contains("InvalidInput"), "{body}");

    let table = stranger.storage.table("some");
    let mut entity = Properties::new();
    for name in ["PartitionKey", "RowKey"] {
        entity.insert(name.to_owned(), "a".into());
    }
    table.insert(&entity).await.unwrap();
    let query = Query {
        page: Some(1_001),
        ..Query::default()
    };
    assert_eq!(table.query(&query).await.unwrap().len(), 1);
}

fn entity(properties: usize, letters: usize) -> Properties {
    let mut entity = Properties::new();
    for name in ["PartitionKey", "RowKey"] {
        entity.insert(name.to_owned(), "a".into());
    }
    for at in 0..properties {
        entity.insert(format!("P{at}"), "x".repeat(letters).into());
    }
    entity
}

#[tokio::test]
async fn an_entity_that_is_too_large_is_refused_by_its_name_and_the_longest_state_is_none() {
    let stranger = Stranger::new();
    let table = stranger.storage.table("some");
    for (properties, letters, expected) in [
        (253, 1, "TooManyProperties"),
        (17, 31_000, "EntityTooLarge"),
    ] {
        let entity = entity(properties, letters);
        let body = Value::Object(entity.clone()).to_string();
        let (status, _, answer) = stranger.table(Method::POST, "/some", body).await;
        assert_eq!(status, 400);
        assert!(answer.contains(expected), "{answer}");
        let error = table.insert(&entity).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Contract);
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (properties, letters) in [(252, 1), (16, 32_000)] {
        let mut entity = entity(properties, letters);
        entity.insert("RowKey".to_owned(), properties.to_string().into());
        let written = table.insert(&entity).await.unwrap();
        assert!(matches!(written, Written::Done(_)), "{written:?}");
    }

    let long = state(&"x".repeat(160_000));
    let storage = stranger.storage();
    storage.save(&key("long"), &long, None).await.unwrap();
    let (loaded, _) = storage.load(&key("long")).await.unwrap().unwrap();
    // Not `assert_eq`, which would print it.
    assert!(loaded == long, "another state");
}

/// A batch of inserts into these partitions.
fn batch(partitions: &[&str]) -> String {
    let mut text = "--batch\r\nContent-Type: multipart/mixed; boundary=changes\r\n\r\n".to_owned();
    for (at, partition) in partitions.iter().enumerate() {
        let entity = json!({ "PartitionKey": partition, "RowKey": at.to_string() });
        text.push_str(
            "--changes\r\nContent-Type: application/http\r\n\r\n\
             POST https://x/some HTTP/1.1\r\nContent-Type: application/json\r\n\r\n",
        );
        text.extend([&entity.to_string(), "\r\n"]);
    }
    text + "--changes--\r\n--batch--\r\n"
}

/// The store sends no batches, so that it can't meet this.
#[tokio::test]
async fn a_batch_of_101_or_over_several_partitions_is_refused_whole() {
    let stranger = Stranger::new();
    for (batch, expected) in [
        (batch(&["a"; 101]), "InvalidInput"),
        (
            batch(&["a", "b"]),
            "CommandsInBatchActOnDifferentPartitions",
        ),
    ] {
        let (status, _, body) = stranger.table(Method::POST, "/$batch", batch).await;
        assert_eq!(status, 202, "{body}");
        assert!(body.contains("HTTP/1.1 400 Bad Request"), "{body}");
        assert!(body.contains(expected), "{body}");
    }
    // This one goes through to the emulator, which wants it signed.
    let (status, ..) = stranger
        .table(Method::POST, "/$batch", batch(&["a"; 100]))
        .await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn an_append_takes_four_mebibytes_and_more_is_appended_in_several() {
    let stranger = Stranger::new();
    let storage = stranger.storage();
    storage
        .add_sightings("set", 1, &[sighting("x")])
        .await
        .unwrap();
    let append = |bytes| {
        let stranger = &stranger;
        let query = Some(("comp", "appendblock"));
        let path = "sightings/set/1.0";
        async move {
            stranger
                .blob(Method::PUT, path, query, &[], vec![0; bytes])
                .await
        }
    };
    let (status, code, _) = append((4 << 20) + 1).await;
    assert_eq!((status, code.as_str()), (413, "RequestBodyTooLarge"));
    assert_eq!(append(4 << 20).await.0, 201);

    let long: Vec<Sighting> = (0..5_000)
        .map(|at| sighting(&format!("{at:01000}")))
        .collect();
    storage.add_sightings("set", 7, &long).await.unwrap();
    assert!(log(storage, "set", 7).await == long, "another log");
    let many: Vec<u64> = (0..600_000).collect();
    let added = [(7, many.clone())];
    storage.add_fingerprints("set", &added).await.unwrap();
    assert!(found(storage, "set", 7).await == many, "another bucket");
}

#[tokio::test]
async fn metadata_over_eight_kibibytes_are_refused_and_a_reason_is_cut_to_fit() {
    let stranger = Stranger::new();
    let storage = stranger.storage();
    storage.park(&parked("first", b"[]")).await.unwrap();
    let put = |bytes: usize| {
        let stranger = &stranger;
        async move {
            let value = "x".repeat(bytes - "note".len());
            let headers = [
                ("x-ms-blob-type", "BlockBlob"),
                ("x-ms-meta-note", value.as_str()),
            ];
            stranger
                .blob(Method::PUT, "some", None, &headers, Vec::new())
                .await
        }
    };
    let (status, code, _) = put((8 << 10) + 1).await;
    assert_eq!((status, code.as_str()), (400, "MetadataTooLarge"));
    assert_eq!(put(8 << 10).await.0, 201);

    let mut long = parked("long", b"[{}]");
    long.reason = "💚".repeat(600);
    long.table = "T".repeat(2_500);
    storage.park(&long).await.unwrap();
    let back = storage.parked_rows("long").await.unwrap().unwrap();
    assert_eq!((&back.table, &back.body), (&long.table, &long.body));
    assert!(long.reason.starts_with(&back.reason) && back.reason.chars().count() > 400);
}

#[tokio::test]
async fn a_lease_that_was_taken_away_is_lost_and_the_store_says_so() {
    let stranger = Stranger::new();
    stranger.storage().park(&parked("a", b"[]")).await.unwrap();
    let path = "outbox/a";
    let lease = |action, more: [(&'static str, &'static str); 2]| {
        let stranger = &stranger;
        async move {
            let mut headers = vec![("x-ms-lease-action", action)];
            headers.extend(more);
            let query = Some(("comp", "lease"));
            stranger
                .blob(Method::PUT, path, query, &headers, Vec::new())
                .await
        }
    };
    let id = "1f812371-a41d-49e6-b123-f4b542e851c5";
    let with_lease = || async {
        let headers = [("x-ms-blob-type", "BlockBlob"), ("x-ms-lease-id", id)];
        let (status, code, _) = stranger
            .blob(Method::PUT, path, None, &headers, vec![1])
            .await;
        (status, code)
    };
    assert_eq!(
        with_lease().await,
        (412, "LeaseNotPresentWithBlobOperation".to_owned())
    );
    let acquire = [
        ("x-ms-lease-duration", "-1"),
        ("x-ms-proposed-lease-id", id),
    ];
    assert_eq!(lease("acquire", acquire).await.0, 201);
    assert_eq!(with_lease().await.0, 201);
    let error = stranger.storage().drop_parked("a").await.unwrap_err();
    assert!(error.to_string().contains("LeaseIdMissing"), "{error}");
    assert!(error.to_string().contains("outbox/a"), "{error}");

    let now = [
        ("x-ms-lease-break-period", "0"),
        ("x-ms-client-request-id", "x"),
    ];
    assert_eq!(lease("break", now).await.0, 202);
    assert_eq!(with_lease().await, (412, "LeaseLost".to_owned()));
    stranger.storage().drop_parked("a").await.unwrap();
}

/// What somebody does who tidies up a storage account by hand.
#[tokio::test]
async fn what_is_damaged_hides_none_of_the_others() {
    let stranger = Stranger::new();
    let storage = stranger.storage();
    for name in ["a", "bad", "c"] {
        storage.save(&key(name), &state(name), None).await.unwrap();
    }
    let mut change = Properties::new();
    for (name, value) in [("State0", "torn"), ("Connection", ""), ("Stream", "other")] {
        change.insert(name.to_owned(), value.into());
    }
    let bad = Key {
        partition: "default".to_owned(),
        row: "bad".to_owned(),
    };
    let table = stranger.storage.table(STATE_TABLE);
    table.merge(&bad, &change, "*").await.unwrap();
    one_damaged_state_hides_no_other(storage, "torn").await;

    for id in ["one", "two"] {
        storage.park(&parked(id, b"[{}]")).await.unwrap();
        storage.bury(&[letter(id, 0, "why")]).await.unwrap();
    }
    let put = [("x-ms-blob-type", "BlockBlob")];
    for path in ["outbox/one", "dead/one"] {
        let put = stranger
            .blob(Method::PUT, path, None, &put, b"torn".to_vec())
            .await;
        assert_eq!(put.0, 201);
    }
    let listed = storage.parked(9).await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["one", "two"]);
    assert!(listed[0].reason.contains("damaged"), "{}", listed[0].reason);
    assert_eq!(storage.outbox_size().await.unwrap(), (2, 4));
    let torn = storage.parked_rows("one").await.unwrap().unwrap();
    assert_eq!(torn.body, b"torn");
    let letters = storage.dead_letters(9).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!(
        (letters[0].id.as_str(), &letters[0].body[..]),
        ("one", &b"torn"[..])
    );
    assert_eq!(letters[1], letter("two", 0, "why"));
    storage.drop_parked("one").await.unwrap();
    storage.drop_dead_letter("one").await.unwrap();
    assert_eq!(storage.outbox_size().await.unwrap().0, 1);
    assert_eq!(storage.count_dead_letters().await.unwrap(), 1);

    storage
        .add_fingerprints("set", &[(1, vec![1])])
        .await
        .unwrap();
    storage
        .add_sightings("set", 1, &[sighting("x")])
        .await
        .unwrap();
    let append = Some(("comp", "appendblock"));
    for path in ["fingerprints/set/1.0", "sightings/set/1.0"] {
        let put = stranger
            .blob(Method::PUT, path, append, &[], vec![255; 5])
            .await;
        assert_eq!(put.0, 201);
    }
    // What is added behind the damage counts as if there were none.
    assert!(found(storage, "set", 1).await.contains(&1));
    storage
        .add_fingerprints("set", &[(1, vec![2])])
        .await
        .unwrap();
    let prints = found(storage, "set", 1).await;
    assert!(prints.contains(&1) && prints.contains(&2), "{prints:?}");
    let first = storage.sightings("set", 1, 0).await.unwrap();
    assert_eq!(first.sightings, [sighting("x")]);
    let error = storage.sightings("set", 1, first.next.unwrap()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("cursor reset"), "{error}");
}
