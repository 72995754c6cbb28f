//! `SCALE_OUT=queue` with the binary as the Functions host starts it, several times, on the emulator's real
//! queues: timers plan, a stand-in of the host's listener hands out, workers pull.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Request};
use chrono::TimeDelta;
use futures_util::future::join_all;
use sentinel_connector::{
    app::{
        plan::{LIFE, MOST_TRIES},
        scale_out::{NOTES_TABLE, POISON_QUEUE, PULL_QUEUE},
    },
    core::position::window::delta,
    io::clock::{Clock, SystemClock},
    pipeline::health,
    simulator::Product,
    storage::{
        StateStore,
        azure::{
            AzureStorage,
            table::{Key, Query, Table},
        },
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{
    azurite::{Azurite, Way, parsed, signed_in, wire},
    tenant::{Served, Tenant, assert_adds_up},
};

mod listener;

use listener::{QueueOptions, Queues};

/// The streams of each connection.
const STREAMS: [&str; 2] = ["eset.detections", "eset.incidents"];

/// Who has asked, by the first part of the path.
#[derive(Default)]
struct Seen {
    /// Nobody is answered until so many accounts have been asked for.
    gate: usize,
    asked: watch::Sender<BTreeSet<String>>,
    under_way: Mutex<BTreeMap<String, usize>>,
    overlaps: Mutex<BTreeSet<String>>,
}

/// `/c7/eset/…` is `/eset/…` of an account of its own.
fn behind(seen: &Arc<Seen>, simulator: Router) -> Router {
    let seen = Arc::clone(seen);
    Router::new().fallback(move |mut request: Request| {
        let (seen, simulator) = (Arc::clone(&seen), simulator.clone());
        async move {
            let path = request.uri().path_and_query().unwrap().as_str().to_owned();
            let parts = path.split_once("/eset/");
            let Some((account, rest)) = parts.filter(|(account, _)| !account.is_empty()) else {
                return simulator.oneshot(request).await.unwrap();
            };
            *request.uri_mut() = format!("/eset/{rest}").parse().unwrap();
            let account = account.trim_start_matches('/').to_owned();
            {
                let mut under_way = seen.under_way.lock().unwrap();
                let count = under_way.entry(account.clone()).or_default();
                *count += 1;
                if *count > 1 {
                    seen.overlaps.lock().unwrap().insert(account.clone());
                }
            }
            let mut asked = seen.asked.subscribe();
            seen.asked.send_modify(|asked| {
                asked.insert(account.clone());
            });
            drop(asked.wait_for(|asked| asked.len() >= seen.gate).await);
            let answer = simulator.oneshot(request).await.unwrap();
            *seen.under_way.lock().unwrap().get_mut(&account).unwrap() -= 1;
            answer
        }
    })
}

/// Connections to accounts of their own, state and queues in an account of the emulator's.
struct Fleet {
    tenant: Tenant,
    seen: Arc<Seen>,
    queues: Queues,
    names: Vec<String>,
    _way: Option<Way>,
}

impl Fleet {
    async fn new(connections: usize, gate: usize) -> Self {
        Self::with(connections, gate, |_| "").await
    }

    /// `own` are further settings of a connection.
    async fn with(connections: usize, gate: usize, own: impl Fn(usize) -> &'static str) -> Self {
        Self::built(connections, gate, TimeDelta::zero(), own).await
    }

    /// Services and storage account are so far away.
    async fn built(
        connections: usize,
        gate: usize,
        latency: TimeDelta,
        own: impl Fn(usize) -> &'static str,
    ) -> Self {
        let seen = Arc::new(Seen {
            gate,
            ..Seen::default()
        });
        let change = |options: &mut sentinel_connector::simulator::Options| {
            options.calls_per_second = None;
            options.scale = 0.02;
            options.latency = latency.to_std().unwrap();
        };
        let mut tenant = Tenant::behind(change, |router| behind(&seen, router)).await;
        let mut account = Azurite::shared().fresh();
        let mut way = None;
        if latency > TimeDelta::zero() {
            let far = way.insert(Way::to(&account, latency).await);
            account.clone_from(&far.connection_string);
        }
        let base = tenant.settings["ESET_URL_TEMPLATE"].clone();
        let names: Vec<String> = (1..=connections).map(|at| format!("c{at}")).collect();
        let entries: Vec<String> = (1..=connections)
            .map(|at| {
                let url = base.replacen("/eset/", &format!("/c{at}/eset/"), 1);
                let own = own(at);
                format!(
                    r#"{{"name":"c{at}","source":"eset","settings":{{"ESET_URL_TEMPLATE":"{url}"{own}}}}}"#
                )
            })
            .collect();
        tenant.unset("DEFENDER_");
        for (name, value) in [
            ("STORAGE", "azure"),
            ("SINK", "logs-ingestion"),
            ("SCALE_OUT", "queue"),
            ("AzureWebJobsStorage", account.as_str()),
            ("ESET_PRODUCTS", "protect"),
            ("ESET_STREAMS", "detections,incidents"),
            ("ESET_ENRICH", "none"),
            ("CONNECTIONS", &format!("[{}]", entries.join(","))),
            ("LOG_LEVEL", "info"),
        ] {
            tenant.set(name, value);
        }
        Self {
            queues: Queues::of(&account),
            tenant,
            seen,
            names,
            _way: way,
        }
    }

    async fn workers(&self, count: usize) -> Vec<Served> {
        join_all((0..count).map(|_| Served::start(&self.tenant))).await
    }

    /// Hands out what is in the queue, until nothing is.
    async fn work(&self, workers: &[Served]) {
        let listeners = workers.iter().enumerate();
        let listeners = listeners.map(|(number, worker)| self.queues.listen(number, worker));
        join_all(listeners).await;
    }

    fn storage(&self) -> AzureStorage {
        let account = &self.tenant.settings["AzureWebJobsStorage"];
        AzureStorage::new(signed_in(parsed(account)), wire())
    }

    fn notes(&self) -> Table {
        self.storage().table(NOTES_TABLE)
    }

    async fn notes_left(&self) -> Vec<String> {
        let notes = self.notes().query(&Query::default()).await.unwrap();
        let lane = |note: &serde_json::Map<String, Value>| note["RowKey"].as_str().unwrap().into();
        notes.iter().map(lane).collect()
    }

    async fn in_queue(&self) -> u64 {
        self.storage()
            .queue(PULL_QUEUE)
            .unwrap()
            .length()
            .await
            .unwrap()
    }

    /// As if so much time had passed that every lease is over.
    async fn outlive_leases(&self) -> usize {
        let storage = self.storage();
        let mut leases = 0;
        for (key, mut state) in storage.states().await.unwrap() {
            if let Some(lease) = &mut state.lease {
                leases += 1;
                lease.until = self.tenant.began;
                let (_, etag) = storage.load(&key).await.unwrap().unwrap();
                storage.save(&key, &state, Some(&etag)).await.unwrap();
            }
        }
        leases
    }

    /// As if the last run of each stream of a connection had ended long ago.
    async fn make_due(&self, connection: &str) {
        let storage = self.storage();
        for (key, mut state) in storage.states().await.unwrap() {
            if key.connection == connection {
                state.finished = None;
                let (_, etag) = storage.load(&key).await.unwrap().unwrap();
                storage.save(&key, &state, Some(&etag)).await.unwrap();
            }
        }
    }

    /// The reports of all runs that ended, as their health rows tell them.
    fn runs(&self) -> Vec<Value> {
        let received = self.tenant.simulator.received();
        let rows = received.into_values().flat_map(|received| received.rows);
        rows.filter(|row| row["streamName"] == health::STREAM)
            .map(|row| row["additionalFields"]["run"].clone())
            .collect()
    }

    /// How often each detection of each connection has landed.
    fn landed(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let received = self.tenant.simulator.received();
        let mut landed = BTreeMap::<String, BTreeMap<String, u64>>::new();
        for row in received.into_values().flat_map(|received| received.rows) {
            if row["streamName"] == STREAMS[0] {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let ids = landed.entry(text("connectionName")).or_default();
                *ids.entry(text("recordId")).or_default() += 1;
            }
        }
        landed
    }

    /// Every connection has the detections of the day before the first run, none oftener than so.
    fn assert_landed(&self, names: &[String], most: u64) {
        let world = self.tenant.simulator.world();
        let (from, began) = (SystemClock.now() - TimeDelta::hours(24), self.tenant.began);
        let expected = world.detection_ids(Product::Protect, from, began, began);
        assert!(expected.len() > 2, "{expected:?}");
        let landed = self.landed();
        for name in names {
            let ids = landed.get(name).cloned().unwrap_or_default();
            let missing: Vec<_> = expected
                .iter()
                .filter(|id| !ids.contains_key(*id))
                .collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
            let often: Vec<_> = ids.iter().filter(|(_, times)| **times > most).collect();
            assert!(often.is_empty(), "{name}: {often:?}");
        }
    }

    /// Each record of each run that ended is counted once.
    fn assert_balance(&self) {
        for run in self.runs() {
            assert_adds_up(&run);
        }
    }
}

/// What a timer's plan says.
async fn plan(worker: &Served) -> Value {
    worker.ok("EsetTimer").await["ReturnValue"].clone()
}

fn queued(plan: &Value) -> Vec<&str> {
    let queued = plan["queued"].as_array().unwrap().iter();
    queued.map(|lane| lane.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lane_is_run_once_and_by_no_two_workers_and_several_share_them() {
    let options = QueueOptions::shipped();
    let at_once = options.batch_size + options.new_batch_size;
    // More accounts than one worker is given at a time: without a second one nobody is answered.
    let fleet = Fleet::new(20, at_once + 1).await;
    let workers = fleet.workers(3).await;
    let first = plan(&workers[0]).await;
    assert_eq!(queued(&first).len(), 20, "{first:#}");
    assert_eq!(fleet.in_queue().await, 20);
    // While its message waits no lane is queued again, whoever plans.
    let second = plan(&workers[1]).await;
    assert_eq!(queued(&second), [""; 0]);
    assert_eq!(second["waiting"], 20);
    assert_eq!(second["messages"], 20);
    assert!(second["oldest"].is_string(), "{second:#}");
    assert_eq!(fleet.in_queue().await, 20);

    fleet.work(&workers).await;
    let tries = fleet.queues.tries.lock().unwrap().clone();
    assert_eq!(tries.len(), 20, "{tries:?}");
    let by: BTreeSet<usize> = tries.iter().map(|one| one.worker).collect();
    assert!(by.len() > 1, "{by:?}");
    for one in &tries {
        assert_eq!(one.dequeue_count, 1);
        let (status, body) = one.answer.as_ref().unwrap();
        assert_eq!(*status, 200, "{body}");
        let streams = body["ReturnValue"]["streams"].as_array().unwrap();
        assert_eq!(streams.len(), STREAMS.len(), "{body:#}");
    }
    let mut runs: Vec<(String, String)> = Vec::new();
    for run in fleet.runs() {
        assert_eq!(run["outcome"], "up-to-date", "{run:#}");
        let text = |name: &str| run[name].as_str().unwrap().to_owned();
        runs.push((text("connection"), text("stream")));
    }
    runs.sort_unstable();
    let each = fleet.names.iter();
    let mut expected: Vec<_> = each
        .flat_map(|name| STREAMS.map(|stream| (name.clone(), stream.to_owned())))
        .collect();
    expected.sort_unstable();
    assert_eq!(runs, expected);
    assert_eq!(*fleet.seen.overlaps.lock().unwrap(), BTreeSet::new());
    fleet.assert_landed(&fleet.names, 1);
    fleet.assert_balance();

    assert_eq!(fleet.in_queue().await, 0);
    assert_eq!(fleet.notes_left().await, [""; 0]);
    let third = plan(&workers[2]).await;
    assert_eq!(queued(&third), [""; 0]);
    assert_eq!(third["notDue"], 20, "{third:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waited_longest_is_queued_first_and_only_what_is_due() {
    let fleet = Fleet::new(4, 0).await;
    let workers = fleet.workers(1).await;
    for name in ["c3", "c1", "c4", "c2"] {
        let message = json!({
            "version": 1, "function": "EsetTimer", "connections": [name],
            "planned": fleet.tenant.began, "plan": "by hand",
        });
        fleet.queues.put(PULL_QUEUE, &message.to_string()).await;
        fleet.work(&workers).await;
    }
    for name in ["c1", "c2", "c3"] {
        fleet.make_due(name).await;
    }
    let planned = plan(&workers[0]).await;
    // Eight at a time are put in side by side: the report keeps the order.
    assert_eq!(queued(&planned), ["c3", "c1", "c2"]);
    assert_eq!(planned["notDue"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_at_any_point_loses_nothing() {
    for fault in [
        "eset.token:never@2",
        "eset.detections.window:never@3",
        "eset.incidents:never@2",
        "ingestion:never@1",
        "ingestion:never@6",
    ] {
        let fleet = Fleet::new(3, 0).await;
        fleet.tenant.simulator.inject(fault.parse().unwrap());
        let mut workers = fleet.workers(2).await;
        let planned = plan(&workers[1]).await;
        assert_eq!(queued(&planned).len(), 3);
        // All go to the first, which meets the fault.
        let doomed = workers.remove(0);
        let killed = async {
            fleet.tenant.simulator.kept_waiting(1).await;
            doomed.signal("-KILL");
        };
        tokio::join!(fleet.queues.listen(0, &doomed), killed);
        fleet.tenant.simulator.heal();
        let tries = fleet.queues.tries.lock().unwrap().clone();
        let died = tries.iter().filter(|one| one.answer.is_none()).count();
        assert!(died > 0, "{fault}: {tries:?}");

        // The host hands its messages to another one, which finds what the dead one holds busy.
        fleet.work(&workers).await;
        assert_eq!(fleet.in_queue().await, 0, "{fault}");
        assert_eq!(fleet.notes_left().await, [""; 0], "{fault}");
        // Until the leases end nothing of theirs is queued, and then it is by the next plan.
        let leases = fleet.outlive_leases().await;
        let planned = plan(&workers[0]).await;
        assert!(queued(&planned).len() <= died, "{fault}: {planned:#}");
        assert!(
            leases == 0 || !queued(&planned).is_empty(),
            "{fault}: {planned:#}"
        );
        fleet.work(&workers).await;
        // What was pushed and not saved lands once more.
        fleet.assert_landed(&fleet.names, 2);
        fleet.assert_balance();
        let planned = plan(&workers[0]).await;
        assert_eq!(planned["notDue"], 3, "{fault}: {planned:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_twice_or_late_or_for_nobody_do_no_harm_and_say_so() {
    let fleet = Fleet::new(3, 0).await;
    let workers = fleet.workers(2).await;
    let planned = plan(&workers[0]).await;
    assert_eq!(queued(&planned), ["c1", "c2", "c3"]);
    // Each of them is there twice, as after an answer that was lost.
    for taken in fleet.queues.take(PULL_QUEUE, 3).await {
        fleet.queues.put(PULL_QUEUE, &taken.text()).await;
        fleet.queues.put(PULL_QUEUE, &taken.text()).await;
        fleet.queues.delete(PULL_QUEUE, &taken).await;
    }
    let message = |function: &str, connections: &[&str]| {
        json!({
            "version": 1, "function": function, "connections": connections,
            "planned": fleet.tenant.began - TimeDelta::days(2), "plan": "long ago",
        })
        .to_string()
    };
    fleet.work(&workers).await;
    fleet.assert_landed(&fleet.names, 1);
    let twice = fleet.queues.tries.lock().unwrap().len();
    assert_eq!(twice, 6);
    for (text, says) in [
        (message("EsetTimer", &["c1"]), None),
        (
            message("EsetTimer", &["c2", "gone"]),
            Some("`gone` is no connection"),
        ),
        (
            message("EsetTimer", &["gone"]),
            Some("`gone` is no connection"),
        ),
        (
            message("DefenderTimer", &["c1"]),
            Some("`c1` is no connection"),
        ),
        (
            message("OktaTimer", &["c1"]),
            Some("no function `OktaTimer`"),
        ),
        (
            json!({ "version": 2, "lanes": ["c1"] }).to_string(),
            Some("of version 2"),
        ),
    ] {
        fleet.queues.put(PULL_QUEUE, &text).await;
        fleet.work(&workers).await;
        let last = fleet.queues.tries.lock().unwrap().last().unwrap().clone();
        assert_eq!(last.text, text);
        let (status, body) = last.answer.unwrap();
        assert_eq!(status, 200, "{text}: {body:#}");
        let report = &body["ReturnValue"];
        match says {
            None => assert_eq!(report["streams"][0]["outcome"], "not-due", "{report:#}"),
            Some(says) => {
                let left = report["left"][0].as_str().unwrap();
                assert!(left.contains(says), "{left}");
            }
        }
    }
    fleet.assert_landed(&fleet.names, 1);
    assert_eq!(fleet.notes_left().await, [""; 0]);
    assert_eq!(fleet.queues.take(POISON_QUEUE, 1).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_none_goes_to_the_poison_queue_and_is_told_of() {
    let fleet = Fleet::new(1, 0).await;
    let workers = fleet.workers(1).await;
    for text in ["hello", r#"{"connection":"c1"}"#] {
        fleet.queues.put(PULL_QUEUE, text).await;
        fleet.work(&workers).await;
        let tries = std::mem::take(&mut *fleet.queues.tries.lock().unwrap());
        assert_eq!(tries.len() as u64, MOST_TRIES, "{tries:?}");
        for one in tries {
            let (status, body) = one.answer.unwrap();
            assert_eq!(status, 500);
            let error = body["error"].as_str().unwrap();
            assert!(error.contains("poison queue"), "{error}");
        }
    }
    let status: Value = serde_json::from_str(&workers[0].status().await).unwrap();
    let poison = &status["queue"]["poison"];
    assert_eq!(
        *poison,
        json!({ "messages": 2, "connections": {}, "unreadable": 2 })
    );
    let check = status["check"].as_array().unwrap();
    let said = |what: &str, says: &str| {
        check.iter().any(|finding| {
            finding["what"] == what && finding["text"].as_str().unwrap().contains(says)
        })
    };
    assert!(
        said("poison messages", "2 messages that can't be read"),
        "{check:#?}"
    );
    assert!(said("queue", "no lane waits"), "{check:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_ends_its_worker_each_time_becomes_a_poison_message_of_its_connection() {
    let fleet = Fleet::new(1, 0).await;
    let planner = fleet.workers(1).await.remove(0);
    assert_eq!(queued(&plan(&planner).await), ["c1"]);
    fleet
        .tenant
        .simulator
        .inject("eset.token:neverx*".parse().unwrap());
    for number in 1..=MOST_TRIES {
        let worker = fleet.workers(1).await.remove(0);
        let killed = async {
            fleet.tenant.simulator.kept_waiting(number).await;
            worker.signal("-KILL");
        };
        tokio::join!(fleet.queues.listen(0, &worker), killed);
        assert_eq!(fleet.outlive_leases().await, 1);
    }
    fleet.tenant.simulator.heal();
    assert_eq!(fleet.in_queue().await, 0);
    let status: Value = serde_json::from_str(&planner.status().await).unwrap();
    let poison = &status["queue"]["poison"];
    let expected = json!({ "messages": 1, "connections": { "c1": 1 }, "unreadable": 0 });
    assert_eq!(*poison, expected);
    let check = status["check"].as_array().unwrap();
    let text = |finding: &&Value| {
        finding["text"]
            .as_str()
            .unwrap()
            .contains("1 messages of `c1`")
    };
    assert!(check.iter().any(|finding| text(&finding)), "{check:#?}");
    // Nothing is lost by it: the next plan goes on.
    assert_eq!(queued(&plan(&planner).await), ["c1"]);
    fleet.work(std::slice::from_ref(&planner)).await;
    fleet.assert_landed(&fleet.names, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_fails_is_tried_again_by_the_host_and_then_by_the_next_plan() {
    let fleet = Fleet::with(3, 0, |at| match at {
        2 => r#","ESET_LOGIN":"stranger@contoso.example""#,
        3 => r#","ESET_LOGIN":"own@contoso.example""#,
        _ => "",
    });
    let mut fleet = fleet.await;
    fleet.tenant.set("C2_ESET_PASSWORD", "wrong");
    fleet.tenant.unset("KEY_VAULT_URL");
    let workers = fleet.workers(1).await;
    // The third lacks its secret: no message names it, and the plan tells.
    let answer = workers[0].invoke("EsetTimer").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(
        answer.contains("`C3_ESET_PASSWORD` of connection `c3` is not set"),
        "{answer}"
    );
    assert_eq!(fleet.in_queue().await, 2);
    fleet.work(&workers).await;
    let tries = std::mem::take(&mut *fleet.queues.tries.lock().unwrap());
    let of = |name: &str| -> Vec<u16> {
        let own = tries
            .iter()
            .filter(|one| one.text.contains(&format!("[\"{name}\"]")));
        own.map(|one| one.answer.as_ref().unwrap().0).collect()
    };
    assert_eq!(of("c1"), [200]);
    assert_eq!(of("c2"), [500, 500, 500, 500, 200]);
    let log = workers[0].printed();
    assert!(
        log.contains("not tried again before the next plan"),
        "{log}"
    );
    assert_eq!(fleet.queues.take(POISON_QUEUE, 1).await.len(), 0);
    let answer = workers[0].invoke("EsetTimer").await;
    let report = &crate::tenant::body(&answer)["report"];
    assert_eq!(queued(report), ["c2"], "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_lost_is_planned_again_in_a_bounded_time() {
    let fleet = Fleet::new(2, 0).await;
    let workers = fleet.workers(1).await;
    assert_eq!(queued(&plan(&workers[0]).await).len(), 2);
    // In an empty queue nothing waits.
    fleet.queues.clear(PULL_QUEUE).await;
    assert_eq!(queued(&plan(&workers[0]).await).len(), 2);
    // Beside another message nobody can tell, until its life is over.
    fleet.queues.clear(PULL_QUEUE).await;
    fleet.queues.put(PULL_QUEUE, "another").await;
    assert_eq!(plan(&workers[0]).await["waiting"], 2);
    let key = Key {
        partition: "EsetTimer".to_owned(),
        row: "c2".to_owned(),
    };
    let mut note = fleet.notes().get(&key).await.unwrap().unwrap().properties;
    let began = SystemClock.now() - delta(LIFE);
    note.insert("Planned".to_owned(), began.to_rfc3339().into());
    fleet.notes().put(&key, &note).await.unwrap();
    let planned = plan(&workers[0]).await;
    assert_eq!(queued(&planned), ["c2"], "{planned:#}");
    assert_eq!(planned["waiting"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scale_out_a_timer_pulls_by_itself_and_there_is_no_queue() {
    let mut fleet = Fleet::new(2, 0).await;
    fleet.tenant.unset("SCALE_OUT");
    let workers = fleet.workers(1).await;
    assert_eq!(workers[0].outcomes("EsetTimer").await, ["up-to-date"; 4]);
    fleet.assert_landed(&fleet.names, 1);
    let status: Value = serde_json::from_str(&workers[0].status().await).unwrap();
    assert_eq!(status.get("queue"), None);
    // One that is left from when it was on is worked on all the same.
    let message = json!({
        "version": 1, "function": "EsetTimer", "connections": ["c1"],
        "planned": fleet.tenant.began, "plan": "before",
    });
    fleet.queues.put(PULL_QUEUE, &message.to_string()).await;
    fleet.work(&workers).await;
    let (code, body) = fleet.queues.tries.lock().unwrap()[0]
        .answer
        .clone()
        .unwrap();
    assert_eq!(code, 200, "{body:#}");
    assert_eq!(body["ReturnValue"]["streams"][0]["outcome"], "not-due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure to look at: `cargo test --release --test it four_workers -- --ignored --nocapture`; \
            that workers share the lanes is tested without a clock"]
async fn four_workers_are_faster_than_one() {
    let clock = SystemClock;
    let mut walls = Vec::new();
    for count in [1, 4] {
        let fleet = Fleet::built(200, 0, TimeDelta::milliseconds(50), |_| "").await;
        let workers = fleet.workers(count).await;
        assert_eq!(queued(&plan(&workers[0]).await).len(), 200);
        let began = clock.now();
        fleet.work(&workers).await;
        let wall = (clock.now() - began).as_seconds_f64();
        fleet.assert_landed(&fleet.names, 1);
        println!(
            "200 tenants of {} streams, {count} workers: {wall:.2} s",
            STREAMS.len()
        );
        walls.push(wall);
    }
    println!(
        "four workers take {:.2} of one worker's wall",
        walls[1] / walls[0]
    );
}

#[test]
fn the_queue_and_its_tries_are_those_of_host_json_and_of_the_function() {
    let function: Value =
        serde_json::from_str(include_str!("../../PullWorker/function.json")).unwrap();
    let binding = &function["bindings"][0];
    assert_eq!(binding["type"], "queueTrigger");
    assert_eq!(binding["name"], "lane");
    assert_eq!(binding["queueName"], PULL_QUEUE);
    assert_eq!(binding["connection"], "AzureWebJobsStorage");
    assert_eq!(POISON_QUEUE, format!("{PULL_QUEUE}-poison"));
    assert_eq!(QueueOptions::shipped().max_dequeue_count, MOST_TRIES);
    let host: Value = serde_json::from_str(include_str!("../../host.json")).unwrap();
    // It is asked for by settings, where it is needed.
    assert_eq!(host.get("extensionBundle"), None);
    // Longer than any lease that a dead worker may leave at the default budget: the next try finds its
    // streams free. And a message lives longer than all its tries.
    let wait = host["extensions"]["queues"]["visibilityTimeout"]
        .as_str()
        .unwrap();
    let parts: Vec<u64> = wait.split(':').map(|part| part.parse().unwrap()).collect();
    let wait = parts[0] * 3600 + parts[1] * 60 + parts[2];
    assert!(wait >= 240 + 30, "{wait}");
    assert!(MOST_TRIES * (wait + 240) < LIFE.as_secs(), "{wait}");
}
