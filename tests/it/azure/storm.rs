//! Weather between us and the storage account, during whole days of timers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use sentinel_connector::{
    core::position::window::delta,
    error::Kind,
    io::{
        clock::{Clock, SystemClock, VirtualClock},
        http::{Request, Response, SharedTransport, Transport, TransportError},
        wire::Wire,
    },
    pipeline::Outcome,
    storage::azure::AzureStorage,
};
use tokio::sync::watch;

use super::{Cloud, small};
use crate::azurite::{Azurite, network};

/// What the storage account does instead of answering well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It refuses, asks for patience, and has done nothing.
    Answer(u16, &'static str),
    /// The request does not arrive.
    Cut,
    /// It does what it is asked, and its answer is lost.
    LostAnswer,
}
use Trouble::{Answer, Cut, LostAnswer};

const PASSING: [Trouble; 7] = [
    Answer(503, "ServerBusy"),
    LostAnswer,
    Answer(429, "TooManyRequests"),
    Cut,
    Answer(409, "ContainerBeingDeleted"),
    Answer(500, "OperationTimedOut"),
    LostAnswer,
];

/// A clock that waits for the next try move on only while no answer is on its way: those come in real
/// time, and would be late at once. Streams wait side by side, the one that is due first going first:
/// what others wait would else count as their own time.
struct Waiting {
    clock: VirtualClock,
    traffic: Traffic,
}

/// What time has to wait for.
type Traffic = Arc<watch::Sender<Busy>>;

#[derive(Default)]
struct Busy {
    /// How many requests have no whole answer yet.
    requests: usize,
    /// When those who wait go on, each with a number of its own.
    alarms: BTreeSet<(DateTime<Utc>, u64)>,
    numbers: u64,
}

/// A request without its whole answer.
struct Pending(Traffic);

impl Pending {
    fn begin(traffic: &Traffic) -> Self {
        traffic.send_modify(|busy| busy.requests += 1);
        Self(Arc::clone(traffic))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.send_modify(|busy| busy.requests -= 1);
    }
}

/// Somebody who waits.
struct Alarm {
    traffic: Traffic,
    key: (DateTime<Utc>, u64),
}

impl Alarm {
    fn at(traffic: &Traffic, until: DateTime<Utc>) -> Self {
        let mut key = (until, 0);
        traffic.send_modify(|busy| {
            busy.numbers += 1;
            key.1 = busy.numbers;
            busy.alarms.insert(key);
        });
        Self {
            traffic: Arc::clone(traffic),
            key,
        }
    }

    async fn is_next(&self) {
        let mut traffic = self.traffic.subscribe();
        let next = |busy: &Busy| busy.requests == 0 && busy.alarms.first() == Some(&self.key);
        traffic.wait_for(next).await.unwrap();
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.traffic.send_modify(|busy| {
            busy.alarms.remove(&self.key);
        });
    }
}

#[async_trait]
impl Clock for Waiting {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now() + delta(duration);
        let alarm = Alarm::at(&self.traffic, until);
        alarm.is_next().await;
        let left = (until - self.now()).to_std();
        self.clock.sleep(left.unwrap_or_default()).await;
    }

    fn is_virtual(&self) -> bool {
        self.clock.is_virtual()
    }
}

/// The network on the way to the emulator.
struct Sky {
    network: SharedTransport,
    traffic: Traffic,
    /// Every so many requests one is struck; 0 is fair weather.
    every: AtomicU64,
    /// Nothing gets through.
    closed: AtomicBool,
    troubles: &'static [Trouble],
    sent: AtomicU64,
    struck: AtomicU64,
    /// How often in a row each request was struck, by its method and path.
    in_a_row: Mutex<HashMap<String, u32>>,
}

/// A request is struck no more often in a row than it is sent again. Two others between each of its
/// tries would else have every third one strike it for ever.
const IN_A_ROW: u32 = 4;

impl Sky {
    fn strike(&self, request: &Request) -> Option<Trouble> {
        if self.closed.load(Ordering::Relaxed) {
            self.struck.fetch_add(1, Ordering::Relaxed);
            return Some(Answer(503, "ServerBusy"));
        }
        let every = self.every.load(Ordering::Relaxed);
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        let name = format!("{} {}", request.method(), request.uri().path());
        let mut in_a_row = self.in_a_row.lock().unwrap();
        let strikes = in_a_row.remove(&name).unwrap_or_default();
        if every == 0 || sent % every != every - 1 || strikes == IN_A_ROW {
            return None;
        }
        in_a_row.insert(name, strikes + 1);
        let struck = self.struck.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(struck).unwrap() % self.troubles.len();
        Some(self.troubles[at])
    }
}

#[async_trait]
impl Transport for Sky {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let _pending = Pending::begin(&self.traffic);
        match self.strike(&request) {
            None => {
                let answer = self.network.send(request).await?;
                let (status, headers) = (answer.status, answer.headers.clone());
                let body = answer.whole_body().await?;
                Ok(Response {
                    status,
                    headers,
                    body: stream::once(async { Ok(body) }).boxed(),
                })
            }
            Some(Cut) => Err(TransportError::new("connection reset")),
            Some(LostAnswer) => {
                let answer = self.network.send(request).await?;
                answer.whole_body().await?;
                Err(TransportError::new("connection reset"))
            }
            Some(Answer(status, code)) => {
                let mut headers = HeaderMap::new();
                headers.insert("x-ms-error-code", HeaderValue::from_static(code));
                headers.insert("retry-after", HeaderValue::from_static("2"));
                Ok(Response {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers,
                    body: stream::once(async { Ok(Bytes::new()) }).boxed(),
                })
            }
        }
    }
}

/// A company whose state lies behind this sky.
fn under(troubles: &'static [Trouble]) -> (Cloud, Arc<Sky>) {
    let traffic = Traffic::default();
    let sky = Arc::new(Sky {
        network: network(),
        traffic: Arc::clone(&traffic),
        every: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        troubles,
        sent: AtomicU64::new(0),
        struck: AtomicU64::new(0),
        in_a_row: Mutex::default(),
    });
    let wire = Wire {
        transport: Arc::clone(&sky) as SharedTransport,
        clock: Arc::new(Waiting {
            clock: VirtualClock::new(SystemClock.now()),
            traffic,
        }),
        random: Arc::new(|| 0.5),
    };
    let storage = AzureStorage::new(Azurite::shared().account(), wire);
    (Cloud::over(Arc::new(storage), small), sky)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_throttles_and_loses_answers_for_hours_costs_nothing() {
    let (mut cloud, sky) = under(&PASSING);
    sky.every.store(3, Ordering::Relaxed);
    for hour in 0..6 {
        // An outage of the sink in the middle, so that the outbox is used as well.
        if hour == 2 {
            cloud.world.inject("ingestion:503x*");
        }
        if hour == 4 {
            cloud.world.simulator.heal();
        }
        for report in cloud.run().await {
            assert_eq!(report.outcome, Outcome::UpToDate, "{hour}: {report:?}");
        }
        cloud.drain().await;
        cloud.world.pass(60);
    }
    cloud.run_until_done().await;
    assert!(sky.struck.load(Ordering::Relaxed) > 50);
    cloud.assert_complete("a storm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_storage_fails_runs_and_loses_nothing() {
    // Each number of requests gets through before it begins.
    for fair in [0, 1, 5, 9, 14, 20] {
        let (mut cloud, sky) = under(&PASSING);
        cloud.run_until_done().await;
        cloud.world.pass(180);
        let begins = sky.sent.load(Ordering::Relaxed) + fair;
        let closing = Arc::clone(&sky);
        let parts = cloud.parts();
        let parts = sentinel_connector::pipeline::Parts {
            progress: Arc::new(move |_| {
                if closing.sent.load(Ordering::Relaxed) >= begins {
                    closing.closed.store(true, Ordering::Relaxed);
                }
            }),
            ..parts
        };
        if fair == 0 {
            sky.closed.store(true, Ordering::Relaxed);
        }
        let reports = cloud.world.run_with(&parts).await;
        for report in reports
            .iter()
            .filter(|report| report.outcome == Outcome::Failed)
        {
            assert_eq!(report.error_kind, Some(Kind::Transient), "{report:?}");
            let reason = report.reason.as_deref().unwrap();
            assert!(reason.contains("storage of account"), "{reason}");
        }
        assert_eq!(reports.last().unwrap().outcome, Outcome::Failed, "{fair}");
        sky.closed.store(false, Ordering::Relaxed);
        // Leases end.
        cloud.world.pass(5);
        cloud.run_until_done().await;
        cloud.assert_nothing_lost(&BTreeSet::new(), &format!("outage after {fair}"));
        for stream in cloud.streams() {
            let most = cloud.landed(stream).into_values().max();
            assert!(most <= Some(2), "{fair}: {stream}");
        }
    }
}

/// Somebody else writes what we are about to write: whatever is refused so was not ours to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_of_the_storage_fail_a_run_or_find_it_busy_and_lose_nothing() {
    for trouble in [
        &[Answer(412, "UpdateConditionNotSatisfied")],
        &[Answer(409, "EntityAlreadyExists")],
    ] {
        for every in [2, 5, 11] {
            let (mut cloud, sky) = under(trouble);
            cloud.run_until_done().await;
            cloud.world.pass(120);
            sky.every.store(every, Ordering::Relaxed);
            for report in cloud.run().await {
                let well = match report.outcome {
                    Outcome::UpToDate | Outcome::Busy => true,
                    Outcome::Failed => report.error_kind != Some(Kind::Config),
                    _ => false,
                };
                assert!(well, "{trouble:?} {every}: {report:?}");
            }
            sky.every.store(0, Ordering::Relaxed);
            cloud.world.pass(5);
            cloud.run_until_done().await;
            let context = format!("{trouble:?} at each {every}.");
            cloud.assert_nothing_lost(&BTreeSet::new(), &context);
        }
    }
}
