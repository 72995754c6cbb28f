//! What only the store in Azure promises, against the emulator, with a wire that can be cut.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use sentinel_connector::{
    error::{Error, Kind},
    io::{
        clock::{Clock, SystemClock, VirtualClock},
        http::{Request, Response, SharedTransport, Transport, TransportError},
        wire::Wire,
    },
    storage::{
        ETag, SaveError, Storage,
        azure::{
            Account, AzureStorage,
            table::{Key, Properties, Query, Written},
        },
    },
};

use super::{conforms, found, key, letter, parked, state};
use crate::azurite::{Azurite, network, parsed, signed_in, wire};

mod identity;
mod queue;
mod stock;
mod wire;

/// What happens to a request.
enum Step {
    /// It goes through, and so does its answer.
    Pass,
    /// It does not arrive.
    Fail,
    /// It arrives, and its answer is lost.
    Lose,
    /// Somebody else answers it.
    Answer(u16, &'static str, Option<&'static str>),
    /// It arrives, and its answer comes after 20 s.
    Late,
    /// Its answer has this header.
    Header(&'static str, &'static str),
}

/// The network, which does to one request after the other what it is told to, and then passes.
struct Script {
    network: SharedTransport,
    clock: VirtualClock,
    steps: Mutex<VecDeque<Step>>,
    sent: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let line = format!("{} {}", request.method(), request.uri().path());
        self.sent.lock().unwrap().push(line);
        let step = self.steps.lock().unwrap().pop_front();
        match step.unwrap_or(Step::Pass) {
            Step::Pass => self.network.send(request).await,
            Step::Fail => Err(TransportError::new("cut before")),
            Step::Lose => {
                let answer = self.network.send(request).await.unwrap();
                answer.whole_body().await.unwrap();
                Err(TransportError::new("cut after"))
            }
            Step::Answer(status, code, wait) => {
                let mut headers = HeaderMap::new();
                headers.insert("x-ms-error-code", HeaderValue::from_static(code));
                if let Some(wait) = wait {
                    headers.insert("retry-after", HeaderValue::from_static(wait));
                }
                Ok(Response {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers,
                    body: stream::once(async { Ok(Bytes::from_static(b"{secret}")) }).boxed(),
                })
            }
            Step::Late => {
                let answer = self.network.send(request).await;
                self.clock.sleep(Duration::from_secs(20)).await;
                answer
            }
            Step::Header(name, value) => {
                let mut answer = self.network.send(request).await?;
                answer.headers.insert(name, HeaderValue::from_static(value));
                Ok(answer)
            }
        }
    }
}

/// Two stores over one account: one behind a script, in virtual time, and one that just works.
struct Scene {
    script: Arc<Script>,
    clock: VirtualClock,
    cut: AzureStorage,
    whole: AzureStorage,
}

impl Scene {
    fn new() -> Self {
        Self::over(Azurite::shared().account())
    }

    fn over(account: Account) -> Self {
        let clock = VirtualClock::new(SystemClock.now());
        let script = Arc::new(Script {
            network: network(),
            clock: clock.clone(),
            steps: Mutex::default(),
            sent: Mutex::default(),
        });
        let cut = Wire {
            transport: Arc::clone(&script) as SharedTransport,
            clock: Arc::new(clock.clone()),
            random: Arc::new(|| 0.5),
        };
        Self {
            script,
            clock,
            cut: AzureStorage::new(account.clone(), cut),
            whole: AzureStorage::new(account, wire()),
        }
    }

    fn next(&self, steps: impl IntoIterator<Item = Step>) {
        self.script.sent.lock().unwrap().clear();
        self.script.steps.lock().unwrap().extend(steps);
    }

    fn cut(&self) -> &dyn Storage {
        &self.cut
    }

    fn whole(&self) -> &dyn Storage {
        &self.whole
    }

    fn sent(&self) -> usize {
        self.script.sent.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_conforms_with_a_key() {
    let [one, two] = Azurite::shared().storage();
    conforms(&one, &two).await;
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_was_saved() {
    let scene = Scene::new();
    let key = key("lost");
    scene
        .whole()
        .save(&self::key("other"), &state("a"), None)
        .await
        .unwrap();
    scene.next([Step::Lose]);
    let first = scene.cut().save(&key, &state("first"), None).await.unwrap();
    let loaded = scene.whole().load(&key).await.unwrap();
    assert_eq!(loaded, Some((state("first"), first.clone())));

    scene.next([Step::Late]);
    let late = scene
        .cut()
        .save(&self::key("late"), &state("late"), None)
        .await;
    let loaded = scene.whole().load(&self::key("late")).await.unwrap();
    assert_eq!(loaded, Some((state("late"), late.unwrap())));

    scene.next([Step::Lose, Step::Answer(503, "ServerBusy", None)]);
    let second = scene.cut().save(&key, &state("second"), Some(&first)).await;
    let loaded = scene.whole().load(&key).await.unwrap();
    assert_eq!(loaded, Some((state("second"), second.unwrap())));
}

#[tokio::test]
async fn a_save_whose_answer_was_lost_and_that_lost_its_place_is_a_conflict() {
    let scene = Scene::new();
    let key = key("lost");
    let first = scene
        .whole()
        .save(&key, &state("first"), None)
        .await
        .unwrap();
    // It did not arrive, and meanwhile somebody else saves.
    scene.next([Step::Fail]);
    let won = scene
        .whole()
        .save(&key, &state("won"), Some(&first))
        .await
        .unwrap();
    let late = scene.cut().save(&key, &state("late"), Some(&first)).await;
    assert_eq!(late, Err(SaveError::Conflict));
    assert_eq!(
        scene.whole().load(&key).await.unwrap(),
        Some((state("won"), won))
    );

    // The stream was forgotten.
    scene.whole().forget(&key).await.unwrap();
    let over_nothing = scene.cut().save(&key, &state("late"), Some(&first)).await;
    assert_eq!(over_nothing, Err(SaveError::Conflict));
}

#[tokio::test]
async fn the_first_save_creates_the_table_even_if_answers_are_lost() {
    let scene = Scene::new();
    assert_eq!(scene.cut().load(&key("new")).await.unwrap(), None);
    assert_eq!(scene.cut().states().await.unwrap(), []);
    scene.cut().forget(&key("new")).await.unwrap();
    // Insert: no table. Create: lost. Create again: it is there. Insert: lost. Insert: a conflict
    // with itself.
    scene.next([Step::Pass, Step::Lose, Step::Pass, Step::Lose]);
    let etag = scene
        .cut()
        .save(&key("new"), &state("a"), None)
        .await
        .unwrap();
    let loaded = scene.whole().load(&key("new")).await.unwrap();
    assert_eq!(loaded, Some((state("a"), etag)));
    assert_eq!(scene.sent(), 6);
}

#[tokio::test]
async fn what_is_asked_twice_is_there_once() {
    let scene = Scene::new();
    let lost = || (0..6).flat_map(|_| [Step::Lose, Step::Pass]);
    scene.next(lost());
    scene.cut().park(&parked("a", b"[{}]")).await.unwrap();
    scene.next(lost());
    scene.cut().bury(&[letter("a", 0, "why")]).await.unwrap();
    scene.next(lost());
    scene
        .cut()
        .add_fingerprints("set", &[(1, vec![1, 2])])
        .await
        .unwrap();
    scene.next([]);
    assert_eq!(scene.whole().outbox_size().await.unwrap(), (1, 4));
    let found_letters = scene.whole().dead_letters(9).await.unwrap();
    assert_eq!(found_letters, [letter("a", 0, "why")]);
    assert_eq!(found(scene.whole(), "set", 1).await, [1, 2]);

    scene.script.steps.lock().unwrap().clear();
    scene.next([Step::Lose]);
    scene.cut().drop_parked("a").await.unwrap();
    scene.next([Step::Lose]);
    scene.cut().drop_dead_letter("a").await.unwrap();
    assert_eq!(scene.whole().outbox_size().await.unwrap(), (0, 0));
    assert_eq!(scene.whole().count_dead_letters().await.unwrap(), 0);
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    let scene = Scene::new();
    let saved = scene
        .whole()
        .save(&key("a"), &state("a"), None)
        .await
        .unwrap();
    let began = scene.clock.now();
    scene.next([
        Step::Answer(503, "ServerBusy", Some("7")),
        Step::Answer(429, "", None),
        Step::Fail,
        Step::Answer(500, "InternalError", None),
    ]);
    let loaded = scene.cut().load(&key("a")).await.unwrap();
    assert_eq!(loaded, Some((state("a"), saved)));
    assert_eq!(scene.sent(), 5);
    // 7 s as asked for, then our own 1.5, 3 and 6.
    assert_eq!((scene.clock.now() - began).num_milliseconds(), 17_500);

    scene.next([
        Step::Answer(409, "TableBeingDeleted", None),
        Step::Answer(409, "ContainerBeingDeleted", None),
    ]);
    scene.cut().park(&parked("a", b"[]")).await.unwrap();
}

#[tokio::test]
async fn what_does_not_pass_is_given_up_before_a_lease_ends() {
    let scene = Scene::new();
    let attempts = [
        vec![Step::Answer(503, "ServerBusy", Some("60"))],
        (0..9).map(|_| Step::Answer(500, "", None)).collect(),
        (0..9).map(|_| Step::Fail).collect(),
    ];
    for steps in attempts {
        let began = scene.clock.now();
        scene.script.steps.lock().unwrap().clear();
        scene.next(steps);
        let error = scene.cut().load(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient);
        let text = error.to_string();
        assert!(text.contains("table storage of account `test"), "{text}");
        assert!(text.contains("attempts in"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert!(scene.clock.now() - began < chrono::TimeDelta::seconds(30));
    }
}

#[tokio::test]
async fn what_nobody_agreed_on_is_a_contract_error() {
    let scene = Scene::new();
    for step in [
        Step::Answer(400, "InvalidInput", None),
        Step::Answer(302, "", None),
        Step::Answer(412, "LeaseIdMissing", None),
        Step::Answer(412, "LeaseLost", None),
        Step::Answer(416, "InvalidRange", None),
        Step::Answer(400, "MetadataTooLarge", None),
    ] {
        scene.next([step]);
        let error = scene.cut().park(&parked("a", b"[]")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Contract, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(scene.sent(), 1);
    }
}

#[tokio::test]
async fn a_blob_of_another_type_is_named_with_the_way_out() {
    let scene = Scene::new();
    scene.next([Step::Answer(409, "InvalidBlobType", None)]);
    let added = [(7, vec![1])];
    let added = scene.cut().add_fingerprints("set", &added).await;
    let error = added.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    assert!(text.contains("`fingerprints/set/7.0`"), "{text}");
    assert!(text.contains("delete it"), "{text}");
}

async fn refused(account: Account) -> Vec<Error> {
    let storage = AzureStorage::new(account, wire());
    let storage: &dyn Storage = &storage;
    vec![
        storage.load(&key("a")).await.unwrap_err(),
        storage.park(&parked("a", b"[]")).await.unwrap_err(),
        storage.fingerprints("set", 1).await.unwrap_err(),
        storage.outbox_size().await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_wrong_key_is_named_with_the_fix_and_never_shown() {
    let wrong = "d3JvbmcgbXVjaA==";
    let text = Azurite::shared().connection_string("test000", wrong);
    for error in refused(signed_in(parsed(&text))).await {
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(text.contains("`AzureWebJobsStorage`"), "{text}");
        assert!(text.contains("account `test000`"), "{text}");
        assert!(
            !text.contains(wrong) && !text.contains("SharedKey"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_reached_is_transient() {
    let nowhere = "AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=http://127.0.0.1:9/a;\
                   BlobEndpoint=http://127.0.0.1:9/a";
    let scene = Scene::over(signed_in(parsed(nowhere)));
    for error in [
        scene.cut().load(&key("a")).await.unwrap_err(),
        scene.cut().outbox_size().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Transient);
        assert!(
            error.to_string().contains("storage of account `a`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_save_that_cannot_be_sent_is_no_conflict() {
    let scene = Scene::new();
    scene.next((0..9).map(|_| Step::Fail));
    let save = scene.cut().save(&key("a"), &state("a"), None).await;
    assert!(matches!(save, Err(SaveError::Failed(error)) if error.kind() == Kind::Transient));
    let unknown = Some(ETag("W/\"datetime'2026-01-01T00%3A00%3A00Z'\"".to_owned()));
    let save = scene
        .whole()
        .save(&key("a"), &state("a"), unknown.as_ref())
        .await;
    assert_eq!(save, Err(SaveError::Conflict));
}

#[tokio::test]
async fn a_long_state_comes_back() {
    let [one, two] = Azurite::shared().storage();
    let [one, two]: [&dyn Storage; 2] = [&one, &two];
    let long = state(&"ü💚 abc\"".repeat(10_000));
    assert!(serde_json::to_string(&long).unwrap().len() > 200_000);
    let etag = one.save(&key("long"), &long, None).await.unwrap();
    // Not `assert_eq`, which would print it.
    let loaded = two.load(&key("long")).await.unwrap();
    assert!(loaded == Some((long, etag.clone())), "another state");
    // A shorter one leaves nothing of it behind.
    two.save(&key("long"), &state("short"), Some(&etag))
        .await
        .unwrap();
    assert_eq!(one.states().await.unwrap(), [(key("long"), state("short"))]);
}

fn entity(row: &str, text: &str) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in [("PartitionKey", "it's"), ("RowKey", row), ("Text", text)] {
        properties.insert(name.to_owned(), value.into());
    }
    properties
}

fn rows(found: &[Properties]) -> Vec<&str> {
    found
        .iter()
        .map(|entity| entity["RowKey"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_table_is_read_page_by_page() {
    let [storage, _] = Azurite::shared().storage();
    let table = storage.table("pages");
    assert_eq!(
        table.query(&Query::default()).await.unwrap(),
        [] as [Properties; 0]
    );
    for row in ["5", "1", "4", "2", "3"] {
        let written = table.insert(&entity(row, "ü & x")).await.unwrap();
        assert!(matches!(written, Written::Done(_)), "{written:?}");
    }
    let mut query = Query {
        page: Some(2),
        ..Query::default()
    };
    let all = table.query(&query).await.unwrap();
    assert_eq!(rows(&all), ["1", "2", "3", "4", "5"]);
    query.filter = "PartitionKey eq 'it''s' and Text eq 'ü & x' and RowKey gt '2'".to_owned();
    query.select = "RowKey".to_owned();
    let some = table.query(&query).await.unwrap();
    assert_eq!(rows(&some), ["3", "4", "5"]);
    assert!(some.iter().all(|entity| !entity.contains_key("Text")));
}

#[tokio::test]
async fn a_table_keeps_what_another_has_changed() {
    let [storage, _] = Azurite::shared().storage();
    let table = storage.table("changes");
    table.create().await.unwrap();
    table.create().await.unwrap();
    let key = Key {
        partition: "it's".to_owned(),
        row: "a 'b' %".to_owned(),
    };
    assert_eq!(table.get(&key).await.unwrap(), None);
    let row = entity(&key.row, "first");
    assert_eq!(
        table.replace(&key, &row, "*").await.unwrap(),
        Written::Missing
    );
    let Written::Done(first) = table.insert(&row).await.unwrap() else {
        panic!("a first")
    };
    assert_eq!(table.insert(&row).await.unwrap(), Written::Conflict);
    let mut more = Properties::new();
    more.insert("More".to_owned(), 7.into());
    let Written::Done(second) = table.merge(&key, &more, &first).await.unwrap() else {
        panic!("a second")
    };
    for written in [
        table.merge(&key, &more, &first).await.unwrap(),
        table.replace(&key, &row, &first).await.unwrap(),
        table.delete(&key, &first).await.unwrap(),
    ] {
        assert_eq!(written, Written::Conflict);
    }
    let found = table.get(&key).await.unwrap().unwrap();
    assert_eq!(found.etag, second);
    assert_eq!(
        (&found.properties["Text"], &found.properties["More"]),
        (&"first".into(), &7.into())
    );
    assert!(matches!(
        table.delete(&key, &second).await.unwrap(),
        Written::Done(_)
    ));
    assert_eq!(table.delete(&key, "*").await.unwrap(), Written::Missing);
}

#[tokio::test]
async fn a_bucket_that_takes_no_more_goes_on_in_another_blob() {
    let scene = Scene::new();
    scene
        .whole()
        .add_fingerprints("set", &[(1, vec![1])])
        .await
        .unwrap();
    scene.next([Step::Answer(409, "BlockCountExceedsLimit", None)]);
    scene
        .cut()
        .add_fingerprints("set", &[(1, vec![2])])
        .await
        .unwrap();
    let full = || Step::Header("x-ms-blob-committed-block-count", "50000");
    scene.next([full()]);
    assert_eq!(found(scene.cut(), "set", 1).await, [1, 2]);
    scene.next([full(), full()]);
    assert_eq!(found(scene.cut(), "set", 1).await, [1, 2]);
    scene.whole().prune_fingerprints("set", 2).await.unwrap();
    scene.next([full()]);
    assert_eq!(found(scene.cut(), "set", 1).await, [] as [u64; 0]);
}

#[tokio::test]
async fn a_failed_addition_may_have_added_some_and_can_be_repeated() {
    let scene = Scene::new();
    scene
        .whole()
        .add_fingerprints("set", &[(1, vec![1])])
        .await
        .unwrap();
    let added = [(1, vec![2]), (2, vec![3])];
    scene.next([Step::Pass].into_iter().chain((0..30).map(|_| Step::Fail)));
    let error = scene
        .cut()
        .add_fingerprints("set", &added)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    scene.script.steps.lock().unwrap().clear();
    scene.cut().add_fingerprints("set", &added).await.unwrap();
    assert_eq!(found(scene.whole(), "set", 1).await, [1, 2]);
    assert_eq!(found(scene.whole(), "set", 2).await, [3]);
}
