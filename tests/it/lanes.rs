//! Many connections in one run: side by side where they share nothing, and nobody in another's way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::Router;
use sentinel_connector::{
    app::{App, Function, RunOptions, failed},
    check::{self, Finding, Found},
    config::{Environment, Mode, Settings},
    core::protocol::source_kind::SourceKind,
    embedded::EmbeddedFile,
    error::Kind,
    io::{
        clock::{Clock, SharedClock, VirtualClock},
        http::{Request, Response, Transport, TransportError},
    },
    pipeline::{LARGE_AT_ONCE, Outcome, Report},
    simulator::{Fault, Options, Product, Simulator},
    sink::workspace::Workspace,
    status::Overview,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::world::{HISTORY, START, folder};

const FUNCTION: Function = Function::Pull(SourceKind::Eset);

/// What is done to a question before it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// The first of this host panics.
    Panics(&'static str),
    /// This host answers nobody.
    Away(&'static str),
    /// Those of this host wait until so many others have ended.
    Hangs(&'static str, usize),
    /// Pages behind the first are never there in time.
    TimePasses,
    /// Whatever is asked but for a login takes half a minute.
    Slow,
}

/// Connections of one company, each at a host of its own, and what is seen of them.
struct Company {
    clock: VirtualClock,
    simulator: Simulator,
    folder: TempDir,
    settings: BTreeMap<String, String>,
    seen: Arc<Seen>,
}

/// The transport, between all connections and the simulator.
struct Seen {
    simulator: Router,
    clock: VirtualClock,
    trouble: Mutex<Trouble>,
    /// Until so many are under way, or read on, nobody is answered.
    gate: Mutex<usize>,
    /// Hosts that have asked, and those that asked for a second page.
    begun: Mutex<BTreeSet<String>>,
    read_on: Mutex<BTreeSet<String>>,
    /// The most that ever were under way together, and of these the ones that read on.
    most: Mutex<(usize, usize)>,
    asking: Mutex<(usize, usize)>,
    /// Connections that have ended.
    ended: watch::Sender<BTreeSet<String>>,
    /// Told of every question.
    asked: watch::Sender<usize>,
}

impl Seen {
    fn under_way(&self) -> (usize, usize) {
        let ended = self.ended.borrow();
        let left = |hosts: &BTreeSet<String>| hosts.difference(&ended).count();
        let begun = left(&self.begun.lock().unwrap());
        (begun, left(&self.read_on.lock().unwrap()))
    }
}

#[async_trait]
impl Transport for Seen {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let host = request.uri().host().unwrap().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let reads_on = query.contains("pageToken=");
        let request_is_login = request.uri().path().ends_with("/oauth/token");
        let trouble = *self.trouble.lock().unwrap();
        let panics = matches!(trouble, Trouble::Panics(panics) if panics == host);
        assert!(!panics, "{host} is not to be asked");
        if matches!(trouble, Trouble::Away(away) if away == host) {
            return Err(TransportError::new("nobody listens"));
        }
        self.begun.lock().unwrap().insert(host.clone());
        if reads_on {
            self.read_on.lock().unwrap().insert(host.clone());
        }
        let (begun, large) = self.under_way();
        {
            let mut most = self.most.lock().unwrap();
            *most = (most.0.max(begun), most.1.max(large));
            let mut asking = self.asking.lock().unwrap();
            asking.0 += 1;
            asking.1 = asking.1.max(asking.0);
        }
        self.asked.send_modify(|asked| *asked += 1);
        let gate = *self.gate.lock().unwrap();
        let mut asked = self.asked.subscribe();
        // It would never open for those who come one after the other.
        let open = |_: &usize| {
            let (begun, large) = *self.most.lock().unwrap();
            if reads_on {
                large >= gate.min(LARGE_AT_ONCE)
            } else {
                begun >= gate
            }
        };
        asked.wait_for(open).await.unwrap();
        if let Trouble::Hangs(slow, others) = trouble
            && host == slow
        {
            let mut ended = self.ended.subscribe();
            ended.wait_for(|ended| ended.len() >= others).await.unwrap();
        }
        if trouble == Trouble::TimePasses && reads_on {
            self.clock.advance(std::time::Duration::from_secs(6));
        }
        if trouble == Trouble::Slow && !request_is_login {
            self.clock.advance(std::time::Duration::from_secs(28));
        }
        // Whoever could ask meanwhile does.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let answer = self.simulator.send(request).await;
        self.asking.lock().unwrap().0 -= 1;
        answer
    }
}

impl Company {
    /// So many connections, each to an account of its own.
    fn new(connections: usize, at_once: usize) -> Self {
        Self::with(connections, at_once, |name| {
            format!(r#"{{"ESET_URL_TEMPLATE": "https://{name}/eset/{{region}}/{{domain}}"}}"#)
        })
    }

    fn with(connections: usize, at_once: usize, own: impl Fn(&str) -> String) -> Self {
        let clock = VirtualClock::new(START.parse().unwrap());
        let mut options = Options::new(5, clock.now());
        options.scale = 0.02;
        let simulator = Simulator::new(options, Arc::new(clock.clone()));
        let folder = folder();
        let settings = simulator.settings("https://sim").into_iter();
        let mut settings: BTreeMap<String, String> = settings
            .filter(|(name, _)| name.starts_with("ESET_"))
            .collect();
        let entries: Vec<String> = (1..=connections)
            .map(|number| {
                let name = format!("c{number}");
                let own = own(&name);
                format!(r#"{{"name": "{name}", "source": "eset", "settings": {own}}}"#)
            })
            .collect();
        for (name, value) in [
            ("CONNECTOR_DATA", folder.path().to_str().unwrap()),
            ("ESET_PRODUCTS", "protect"),
            ("ESET_STREAMS", "detections"),
            ("ESET_ENRICH", "none"),
            ("STREAMS_AT_ONCE", &at_once.to_string()),
            ("CONNECTIONS", &format!("[{}]", entries.join(","))),
        ] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        let seen = Seen {
            simulator: simulator.router(),
            clock: clock.clone(),
            trouble: Mutex::new(Trouble::Nothing),
            gate: Mutex::new(0),
            begun: Mutex::default(),
            read_on: Mutex::default(),
            most: Mutex::default(),
            asking: Mutex::default(),
            ended: watch::Sender::default(),
            asked: watch::Sender::default(),
        };
        Self {
            clock,
            simulator,
            folder,
            settings,
            seen: Arc::new(seen),
        }
    }

    fn trouble(&self, trouble: Trouble) {
        *self.seen.trouble.lock().unwrap() = trouble;
    }

    /// Nobody is answered until so many are under way.
    fn gate(&self, gate: usize) {
        *self.seen.gate.lock().unwrap() = gate;
    }

    /// Lists have many pages, and nobody is answered until so many are under way.
    fn read_on_together(&self, gate: usize) {
        let small = Fault::parse("eset.detections.window:page-size=2x*");
        self.simulator.inject(small.unwrap());
        self.gate(gate);
    }

    fn environment(&self) -> Environment {
        let settings = self.settings.iter();
        settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    fn app(&self) -> App {
        let settings = Settings::load(&self.environment(), Mode::Local).unwrap();
        let clock: SharedClock = Arc::new(self.clock.clone());
        let transport = Arc::clone(&self.seen);
        App::with_transport(&settings, &clock, &(transport as _)).unwrap()
    }

    async fn run(&self) -> Vec<Report> {
        self.seen.ended.send_modify(BTreeSet::clear);
        let seen = Arc::clone(&self.seen);
        let options = RunOptions {
            at_once: true,
            progress: Arc::new(move |report| {
                if report.outcome != Outcome::Running {
                    let name = report.key.connection.clone();
                    seen.ended.send_modify(|ended| {
                        ended.insert(name);
                    });
                }
            }),
            ..RunOptions::default()
        };
        let reports = self.app().run(FUNCTION, &options).await;
        for report in &reports {
            assert!(report.counts.balance(), "{report:?}");
        }
        reports
    }

    /// Every connection holds the day before the first run, each record once.
    async fn assert_all_once(&self, connections: usize) {
        let names: Vec<String> = (1..=connections).map(|at| format!("c{at}")).collect();
        self.assert_each_once(&names).await;
    }

    async fn assert_each_once(&self, names: &[String]) {
        let workspace = Workspace::new(EmbeddedFile::open(self.folder.path()).unwrap()).unwrap();
        let start = START.parse().unwrap();
        let world = self.simulator.world();
        let expected = world.detection_ids(Product::Protect, start - HISTORY, start, start);
        assert!(expected.len() > 4, "{expected:?}");
        for name in names {
            let sql = format!(
                "SELECT recordId FROM IntegrationTable_CL WHERE connectionName = '{name}' \
                 AND streamName = 'eset.detections'"
            );
            let rows = workspace.query(&sql).await.unwrap().rows.into_iter();
            let landed: Vec<String> = rows.map(|mut row| row[0].take().unwrap()).collect();
            let once: BTreeSet<String> = landed.iter().cloned().collect();
            assert_eq!(once.len(), landed.len(), "{name}: one landed twice");
            let missing: Vec<_> = expected.difference(&once).collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
    }
}

fn assert_all(reports: &[Report], outcome: Outcome) {
    for report in reports {
        assert_eq!(report.outcome, outcome, "{report:?}");
    }
}

fn named(reports: &[Report]) -> Vec<&str> {
    let names = reports.iter().map(|report| &*report.key.connection);
    names.collect()
}

#[tokio::test]
async fn connections_that_share_nothing_go_side_by_side_and_no_more_than_may() {
    for at_once in [1, 3, 8] {
        let company = Company::new(8, at_once);
        company.gate(at_once);
        let reports = company.run().await;
        assert_eq!(
            named(&reports),
            ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]
        );
        assert_all(&reports, Outcome::UpToDate);
        assert_eq!(company.seen.most.lock().unwrap().0, at_once);
        company.assert_all_once(8).await;
    }
}

#[tokio::test]
async fn connections_of_one_account_go_one_after_the_other() {
    let alone = Company::with(4, 4, |_| "{}".to_owned());
    let reports = alone.run().await;
    assert_eq!(named(&reports), ["c1", "c2", "c3", "c4"]);
    assert_all(&reports, Outcome::UpToDate);
    assert_eq!(alone.seen.asking.lock().unwrap().1, 1);
    alone.assert_all_once(4).await;
    // Those of different accounts are seen to ask together.
    let beside = Company::new(4, 4);
    beside.run().await;
    assert_eq!(beside.seen.asking.lock().unwrap().1, 4);
}

/// One account lends its calls to all of its connections, and there is more than a run can bring.
#[tokio::test]
async fn connections_of_one_account_have_the_first_turn_in_turn() {
    let mut company = Company::with(3, 3, |_| "{}".to_owned());
    company
        .settings
        .insert("RUN_BUDGET_SECONDS".to_owned(), "5".to_owned());
    company.read_on_together(0);
    company.trouble(Trouble::TimePasses);
    let mut first = Vec::new();
    for _ in 0..9 {
        first.push(company.run().await.remove(0).key.connection);
    }
    assert_eq!(first, ["c1", "c2", "c3"].repeat(3));
}

#[tokio::test]
async fn a_connection_that_hangs_holds_up_nobody_else() {
    let company = Company::new(6, 2);
    company.trouble(Trouble::Hangs("c1", 5));
    let reports = company.run().await;
    assert_all(&reports, Outcome::UpToDate);
    company.assert_all_once(6).await;
}

#[tokio::test]
async fn a_panic_ends_its_own_stream_and_leaves_the_others_whole() {
    let company = Company::new(5, 3);
    company.trouble(Trouble::Panics("c2"));
    let reports = company.run().await;
    assert_eq!(named(&reports), ["c1", "c2", "c3", "c4", "c5"]);
    for report in &reports {
        if report.key.connection == "c2" {
            assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
            assert_eq!(report.error_kind, Some(Kind::Contract));
            let reason = report.reason.as_deref().unwrap();
            assert!(
                reason.starts_with("c2/eset.detections: the run panicked"),
                "{reason}"
            );
        } else {
            assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        }
    }
    // Its lease ends by its time, and the next run begins where it stood.
    company.trouble(Trouble::Nothing);
    company.clock.advance(std::time::Duration::from_mins(5));
    let reports = company.run().await;
    assert_eq!(reports[0].key.connection, "c2", "it waited longest");
    assert_all(&reports, Outcome::UpToDate);
    company.assert_all_once(5).await;
}

#[tokio::test]
async fn few_streams_read_more_than_a_page_however_many_are_under_way() {
    let company = Company::new(7, 7);
    company.read_on_together(7);
    let reports = company.run().await;
    for report in &reports {
        assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
        assert!(report.pages > 1, "{report:?}");
    }
    assert_eq!(*company.seen.most.lock().unwrap(), (7, LARGE_AT_ONCE));
    company.assert_all_once(7).await;
}

#[tokio::test]
async fn who_waits_for_others_that_read_much_until_the_time_is_up_is_behind() {
    let mut company = Company::new(7, 7);
    company
        .settings
        .insert("RUN_BUDGET_SECONDS".to_owned(), "5".to_owned());
    company.read_on_together(7);
    company.trouble(Trouble::TimePasses);
    let reports = company.run().await;
    assert_all(&reports, Outcome::Behind);
    assert_eq!(*company.seen.most.lock().unwrap(), (7, LARGE_AT_ONCE));
    company.trouble(Trouble::Nothing);
    company.simulator.heal();
    company.run().await;
    let reports = company.run().await;
    assert_all(&reports, Outcome::UpToDate);
    company.assert_all_once(7).await;
}

/// A missing secret, a wrong value, an unknown setting and a service that is away, among twenty.
#[tokio::test]
async fn the_mistake_of_one_connection_is_its_own() {
    let company = Company::with(20, 4, |name| {
        let url = format!(r#""ESET_URL_TEMPLATE": "https://{name}/eset/{{region}}/{{domain}}""#);
        let more = match name {
            "c3" => r#", "ESET_LOGIN": "own@example.com""#,
            "c7" => r#", "ESET_REGION": "mars", "ESET_STREAMS": "detections,incidents""#,
            "c15" => r#", "ESET_REGIN": "eu""#,
            _ => "",
        };
        format!("{{{url}{more}}}")
    });
    company.trouble(Trouble::Away("c11"));
    let reports = company.run().await;
    let of = |name: &str| -> Vec<&Report> {
        let own = |report: &&Report| report.key.connection == name;
        reports.iter().filter(own).collect()
    };
    let mut whole = Vec::new();
    for number in 1..=20 {
        let name = format!("c{number}");
        let (kind, streams, says) = match number {
            3 => (
                Kind::Config,
                1,
                "`C3_ESET_PASSWORD` of connection `c3` is not set",
            ),
            7 => (
                Kind::Config,
                2,
                "`ESET_REGION` of connection `c7` is `mars`",
            ),
            11 => (Kind::Transient, 1, "nobody listens"),
            15 => (
                Kind::Config,
                1,
                "connection `c15`: `ESET_REGIN` is unknown; did you mean",
            ),
            _ => {
                let [report] = of(&name)[..] else {
                    panic!("{reports:#?}")
                };
                assert_eq!(report.outcome, Outcome::UpToDate, "{report:?}");
                whole.push(name);
                continue;
            }
        };
        let reports = of(&name);
        assert_eq!(reports.len(), streams, "{reports:#?}");
        for report in reports {
            assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
            assert_eq!(report.error_kind, Some(kind), "{report:?}");
            let reason = report.reason.as_deref().unwrap();
            assert!(reason.contains(says), "{reason}");
        }
    }
    company.assert_each_once(&whole).await;
    assert_eq!(failed(&reports).unwrap().kind(), Kind::Config);
    // Each run of each stream has its health row, also of those that can't be run.
    let workspace = Workspace::new(EmbeddedFile::open(company.folder.path()).unwrap()).unwrap();
    let sql = "SELECT count(*) FROM IntegrationTable_CL WHERE streamName = 'connector.health'";
    let rows = workspace.query(sql).await.unwrap().rows;
    assert_eq!(rows[0][0].as_deref(), Some("21"));
    // `check` names each of them.
    let mut bad = Vec::new();
    let settings = check::settings(&company.environment(), Mode::Local, &mut |finding| {
        if finding.found == Found::Bad {
            bad.push(finding.text);
        }
    });
    assert!(settings.is_some_and(|settings| settings.connections.len() == 17));
    assert_eq!(bad.len(), 3, "{bad:#?}");
    for says in ["`C3_ESET_PASSWORD`", "is `mars`", "`ESET_REGIN`"] {
        assert!(
            bad.iter().any(|text| text.contains(says)),
            "{says}: {bad:#?}"
        );
    }
}

/// What `Status` tells of the connections of a company: how each finding was found, and its words.
async fn status_of(company: &Company) -> Vec<[String; 3]> {
    let app = company.app();
    let now = company.clock.now();
    let overview = Overview::look(Ok(&app), &company.environment(), Mode::Host, now).await;
    let status = overview.json();
    let findings = status["check"].as_array().unwrap().iter();
    let words = |finding: &Value| {
        ["found", "what", "text"].map(|name| finding[name].as_str().unwrap().to_owned())
    };
    let own = findings
        .map(words)
        .filter(|[_, what, _]| what.starts_with('c'));
    own.collect()
}

#[tokio::test]
async fn status_asks_no_source_and_tells_what_the_last_runs_left() {
    let company = Company::new(8, 4);
    let asked = || *company.seen.asked.borrow();
    let findings = status_of(&company).await;
    assert_eq!(findings.len(), 8, "{findings:?}");
    let unread = |[found, _, text]: &[String; 3]| found == "note" && text == "has not run yet";
    assert!(findings.iter().all(unread), "{findings:?}");
    assert_eq!(asked(), 0);
    company.trouble(Trouble::Away("c3"));
    company.run().await;
    let before = asked();
    // Whatever has come back since: it is told when a run has seen it.
    company.trouble(Trouble::Nothing);
    let findings = status_of(&company).await;
    let [[found, what, text]] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!((&**found, &**what), ("bad", "c3/eset.detections"));
    assert!(text.starts_with("its last run failed: "), "{text}");
    assert_eq!(asked(), before);
    company.clock.advance(std::time::Duration::from_mins(5));
    company.run().await;
    assert_eq!(status_of(&company).await, [[""; 3]; 0]);
}

async fn checked(company: &Company) -> Vec<Finding> {
    let mut findings = Vec::new();
    check::dependencies(&company.app(), &mut |finding| findings.push(finding)).await;
    findings.retain(|finding| finding.what.starts_with('c'));
    findings
}

#[tokio::test]
async fn check_tries_connections_side_by_side_and_tells_them_in_order() {
    let company = Company::new(12, 6);
    company.gate(6);
    company.trouble(Trouble::Away("c5"));
    let findings = checked(&company).await;
    assert_eq!(company.seen.begun.lock().unwrap().len(), 11);
    let mut order: Vec<usize> = Vec::new();
    for Finding { found, what, .. } in &findings {
        let (name, _) = what.split_once([':', '/']).unwrap();
        order.push(name.strip_prefix('c').unwrap().parse().unwrap());
        assert!(*found != Found::Bad || name == "c5", "{findings:#?}");
    }
    assert!(order.is_sorted(), "{findings:#?}");
    order.dedup();
    assert_eq!(order, (1..=12).collect::<Vec<_>>());
    // Of an account that can't be reached one line says so.
    assert_eq!(
        findings
            .iter()
            .filter(|finding| finding.found == Found::Bad)
            .count(),
        1
    );
}

#[tokio::test]
async fn what_check_has_no_time_for_is_not_tried_and_not_bad() {
    let company = Company::new(6, 1);
    // Two questions take the minute that all of them have.
    company.trouble(Trouble::Slow);
    let findings = checked(&company).await;
    let untried: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.text.starts_with("not tried: "))
        .map(|finding| &*finding.what)
        .collect();
    assert!(
        findings.iter().all(|finding| finding.found != Found::Bad),
        "{findings:#?}"
    );
    assert!(
        untried.contains(&"c6") && !untried.contains(&"c1"),
        "{findings:#?}"
    );
}

/// What all of them inherit is nobody's own: as before, nothing is pulled until it is mended.
#[test]
fn a_mistake_that_all_connections_inherit_stops_them_all() {
    let mut company = Company::new(3, 3);
    company
        .settings
        .insert("ESET_REGION".to_owned(), "mars".to_owned());
    let problems = Settings::load(&company.environment(), Mode::Local).unwrap_err();
    assert_eq!(problems.problems.len(), 1, "{problems}");
}
