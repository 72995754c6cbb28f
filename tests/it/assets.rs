//! The machine behind an address, a name or an id, against the simulated company.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use sentinel_connector::{
    app::{App, Function, RunOptions, failed},
    assets::{Lookup, find},
    config::{Environment, Mode, Settings},
    core::{
        mapping::assets::{
            Change, Entry, Kind, Name,
            answer::{Found, WORST},
        },
        position::cursor::{StreamKey, StreamState},
        protocol::source_kind::SourceKind,
    },
    embedded::EmbeddedFile,
    error::Kind as Whose,
    host::{Functions, Invocation},
    io::{
        clock::{Clock, SystemClock, VirtualClock},
        http::SharedTransport,
    },
    pipeline::{self, Outcome, Report},
    serve::Served,
    simulator::{Fault, Options, Simulator},
    sink::workspace::Workspace,
    storage::{Storage, sqlite::SqliteStorage},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    interrupt::{Call, Interrupt, Moment, Trouble},
    world::START,
};

struct Company {
    clock: VirtualClock,
    simulator: Simulator,
    folder: TempDir,
    app: App,
}

impl Company {
    fn new(streams: &str, change: impl FnOnce(&mut Options)) -> Self {
        let clock = VirtualClock::new(START.parse().unwrap());
        let mut options = Options::new(7, clock.now());
        options.defender.estate.machines = 80;
        change(&mut options);
        let simulator = Simulator::new(options, Arc::new(clock.clone()));
        let folder = tempfile::tempdir().unwrap();
        let app = Self::app(&simulator, &clock, &folder, streams, "graph");
        Self {
            clock,
            simulator,
            folder,
            app,
        }
    }

    fn app(
        simulator: &Simulator,
        clock: &VirtualClock,
        folder: &TempDir,
        streams: &str,
        alerts_api: &str,
    ) -> App {
        let wanted = ["DEFENDER_", "GRAPH_URL", "AZURE_AUTHORITY_HOST"];
        let own = [
            ("CONNECTOR_DATA", folder.path().display().to_string()),
            ("DEFENDER_STREAMS", streams.to_owned()),
            ("DEFENDER_ALERTS_API", alerts_api.to_owned()),
        ];
        let environment: Environment = simulator
            .settings("https://sim.example")
            .into_iter()
            .filter(|(name, _)| wanted.iter().any(|wanted| name.starts_with(wanted)))
            .chain(own.map(|(name, value)| (name.to_owned(), value)))
            .collect();
        let settings = Settings::load(&environment, Mode::Local).unwrap();
        let transport: SharedTransport = Arc::new(simulator.router());
        App::with_transport(&settings, &(Arc::new(clock.clone()) as _), &transport).unwrap()
    }

    async fn pull(&self) {
        let options = RunOptions {
            at_once: true,
            ..RunOptions::default()
        };
        let reports = self
            .app
            .run(Function::Pull(SourceKind::Defender), &options)
            .await;
        assert_eq!(failed(&reports), None, "{reports:#?}");
    }

    /// One run of one stream, over parts that come to harm.
    async fn run_alone(&self, stream: &str, interrupt: &Interrupt) -> Report {
        let job = self.app.jobs().find(|job| job.key.stream == stream);
        let parts = interrupt.wrap(self.app.parts().clone());
        let limits = self.app.limits(CancellationToken::new());
        let report = pipeline::run(job.unwrap(), &parts, &limits).await;
        assert!(interrupt.is_reached(), "{report:?}");
        report
    }

    async fn state(&self, stream: &str) -> StreamState {
        let key = StreamKey::new("default", stream);
        let found = self.app.parts().storage.load(&key).await.unwrap();
        found.unwrap().0
    }

    /// The store knows of a stream what the tables know.
    async fn assert_filed(&self, stream: &str) {
        let now = self.clock.now();
        let storage = &self.app.parts().storage;
        let open = self.open_alerts().await;
        let vulnerabilities = self.simulator.world().defender().vulnerability_ids(now);
        for id in self.ids() {
            if stream == "machines" {
                let found = self.found(&id).await;
                let told = found[0].machine.last_seen.as_deref();
                assert_eq!(told, self.record(&id)["lastSeen"].as_str(), "{id}");
                continue;
            }
            let (kind, known) = if stream == "alerts" {
                (Kind::Alert, open.get(&id).map_or(0, BTreeSet::len))
            } else {
                let all = vulnerabilities.iter();
                (
                    Kind::Vulnerability,
                    all.filter(|one| one.starts_with(&id)).count(),
                )
            };
            let filed = storage.assets(kind, &id).await.unwrap();
            assert_eq!(filed.len(), known, "{stream} of {id}");
        }
    }

    async fn look(&self, sought: &str) -> Lookup {
        let stop = CancellationToken::new();
        find(&self.app, sought, &stop).await.unwrap()
    }

    async fn found(&self, sought: &str) -> Vec<Found> {
        match self.look(sought).await {
            Lookup::Found(answer) => answer.machines,
            other => panic!("{sought}: {other:?}"),
        }
    }

    fn record(&self, id: &str) -> Value {
        let defender = self.simulator.world().defender();
        defender.machine_record(id, self.clock.now()).unwrap()
    }

    fn ids(&self) -> BTreeSet<String> {
        self.simulator
            .world()
            .defender()
            .machine_ids(self.clock.now())
    }

    /// The ids of the alerts whose last row says that they are open, by machine.
    async fn open_alerts(&self) -> BTreeMap<String, BTreeSet<String>> {
        let file = EmbeddedFile::open(self.folder.path()).unwrap();
        let sql = "SELECT recordId, max(recordVersion), resolved, context \
                   FROM IntegrationTable_CL WHERE streamName = 'defender.alerts' GROUP BY 1";
        let rows = Workspace::new(file).unwrap().query(sql).await.unwrap().rows;
        let mut open: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row[2].as_deref() == Some("0")) {
            let context: Value = serde_json::from_str(row[3].as_deref().unwrap()).unwrap();
            let evidence = context["evidence"].as_array().unwrap();
            for machine in evidence
                .iter()
                .filter_map(|one| one["mdeDeviceId"].as_str())
            {
                let alerts = open.entry(machine.to_owned()).or_default();
                alerts.insert(row[0].clone().unwrap());
            }
        }
        open
    }
}

#[tokio::test]
async fn every_machine_is_found_with_what_the_tables_know_of_it() {
    let company = Company::new("machines,alerts,vulnerabilities", |_| {});
    company.pull().await;
    let now = company.clock.now();
    let all_vulnerabilities = company.simulator.world().defender().vulnerability_ids(now);
    let all_open = company.open_alerts().await;
    let (mut alerts, mut exploited) = (0, 0);
    for id in company.ids() {
        let record = company.record(&id);
        let name = record["computerDnsName"].as_str().unwrap();
        for sought in [
            &id,
            name,
            name.split('.').next().unwrap(),
            &name.to_uppercase(),
        ] {
            let found = company.found(sought).await;
            assert!(found.iter().any(|one| one.machine.id == id), "{sought}");
        }
        let address = record["lastIpAddress"].as_str().unwrap();
        let found = company.found(address).await;
        let found = found.iter().find(|one| one.machine.id == id).unwrap();
        let told = json!(found);
        for (theirs, ours) in [
            ("lastSeen", "lastSeen"),
            ("osPlatform", "osPlatform"),
            ("healthStatus", "health"),
            ("riskScore", "risk"),
            ("exposureLevel", "exposure"),
        ] {
            assert_eq!(told[ours], record[theirs], "{theirs} of {name}");
        }
        assert_eq!(
            found.machine.addresses,
            [address],
            "no loopback, no empty one"
        );
        assert!(!found.users.as_ref().unwrap().is_empty());
        assert_eq!(found.users_missing, None);

        let open = all_open.get(&id).cloned().unwrap_or_default();
        assert_eq!(found.alerts.total, open.len(), "{name}");
        assert!(found.alerts.open.iter().all(|one| open.contains(&one.id)));
        alerts += open.len();
        let of_machine = all_vulnerabilities
            .iter()
            .filter(|one| one.starts_with(&id));
        let vulnerabilities = &found.vulnerabilities;
        assert_eq!(vulnerabilities.total, of_machine.count(), "{name}");
        assert_eq!(
            vulnerabilities.worst.len(),
            vulnerabilities.total.min(WORST)
        );
        assert!(
            vulnerabilities
                .worst
                .iter()
                .all(|one| one.exploit.is_some())
        );
        exploited += vulnerabilities
            .worst
            .iter()
            .filter(|one| one.cvss.is_some())
            .count();
        assert!(found.synced.machines.is_some() && found.synced.alerts.is_some());
        assert!(found.synced.vulnerabilities.is_some());
    }
    assert!(alerts > 0 && exploited > 0, "the company has both");
}

#[tokio::test]
async fn what_has_changed_is_told_and_what_is_gone_is_not_found() {
    let company = Company::new("machines,alerts", |_| {});
    company.pull().await;
    let first = company.ids();
    company.clock.advance(Duration::from_hours(3));
    let before = company.clock.now() - TimeDelta::hours(3);
    company.pull().await;
    let defender = company.simulator.world().defender();
    let seen = defender.machines_seen(before, company.clock.now());
    assert!(seen.len() > 3, "some have reported: {}", seen.len());
    for id in &seen {
        // Nothing has landed for most of them, which are as they were but for the time.
        let found = company.found(id).await;
        let told = found[0].machine.last_seen.as_deref();
        assert_eq!(told, company.record(id)["lastSeen"].as_str(), "{id}");
    }
    // A machine is gone when two passes have missed it.
    for hours in [240, 25] {
        company.clock.advance(Duration::from_hours(hours));
        company.pull().await;
    }
    let now = company.clock.now();
    let mut still = defender.machine_ids(now);
    still.extend(defender.machine_ids(now - TimeDelta::hours(25)));
    let gone: Vec<&String> = first.difference(&still).collect();
    assert!(!gone.is_empty(), "machines come and go");
    for id in gone {
        let Lookup::Unknown(why) = company.look(id).await else {
            panic!("{id} is gone");
        };
        assert!(why.contains("as of 2026-03-"), "{why}");
    }
    let open = company.open_alerts().await;
    for id in company.ids() {
        let alerts = company.found(&id).await[0].alerts.clone();
        let open = open.get(&id).map_or(0, BTreeSet::len);
        assert_eq!(alerts.total, open, "{id}");
    }
}

#[tokio::test]
async fn an_asset_that_the_store_refuses_stops_no_row() {
    let company = Company::new("machines", |_| {});
    let refused = company.ids().pop_first().unwrap();
    let file = EmbeddedFile::open(company.folder.path()).unwrap();
    let trigger = format!(
        "CREATE TRIGGER refuses BEFORE INSERT ON connector_assets WHEN NEW.id = '{refused}'
         BEGIN SELECT RAISE(ABORT, 'on purpose'); END"
    );
    let made = file.with(move |connection| connection.execute_batch(&trigger));
    made.await.unwrap();
    company.pull().await;
    let sql = "SELECT DISTINCT recordId FROM IntegrationTable_CL \
               WHERE streamName = 'defender.machines'";
    let rows = Workspace::new(file).unwrap().query(sql).await.unwrap().rows;
    let landed: BTreeSet<String> = rows
        .into_iter()
        .filter_map(|mut row| row.remove(0))
        .collect();
    assert_eq!(landed, company.ids());
    assert!(matches!(company.look(&refused).await, Lookup::Unknown(_)));
    // The others of its batch are filed all the same.
    let other = company.ids().pop_last().unwrap();
    assert_eq!(company.found(&other).await.len(), 1);
}

/// Rows that are not filed are not handled: the cursor waits for them.
#[tokio::test]
async fn a_store_that_fails_while_it_files_holds_the_cursor() {
    for stream in ["machines", "alerts", "vulnerabilities"] {
        for moment in [Moment::Before, Moment::After] {
            let company = Company::new(stream, |_| {});
            let key = format!("defender.{stream}");
            let interrupt = Interrupt::new(Call::File, 1, Trouble::Transient(moment));
            let report = company.run_alone(&key, &interrupt).await;
            assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
            assert_eq!(report.error_kind, Some(Whose::Transient), "{report:?}");
            assert!(
                report.counts.pulled > 0 && report.counts.balance(),
                "{report:?}"
            );
            let state = company.state(&key).await;
            assert_eq!(
                (state.complete_until, state.last_pass),
                (None, None),
                "{stream}"
            );
            company.pull().await;
            company.assert_filed(stream).await;
        }
    }
}

/// What has not changed is filed all the same, since it was seen again.
#[tokio::test]
async fn a_store_that_fails_to_file_what_is_unchanged_holds_the_cursor_too() {
    let company = Company::new("machines", |_| {});
    company.pull().await;
    let before = company.state("defender.machines").await;
    company.clock.advance(Duration::from_hours(3));
    let interrupt = Interrupt::new(Call::File, 1, Trouble::Transient(Moment::Before));
    let report = company.run_alone("defender.machines", &interrupt).await;
    assert_eq!(report.error_kind, Some(Whose::Transient), "{report:?}");
    let after = company.state("defender.machines").await;
    assert_eq!(after.position, before.position);
    assert_eq!(after.complete_until, before.complete_until);
    company.pull().await;
    company.assert_filed("machines").await;
}

/// By the other API nobody hears any more that an alert of another product was closed.
#[tokio::test]
async fn alerts_that_are_no_longer_followed_are_not_told() {
    let company = Company::new("machines,alerts", |_| {});
    company.pull().await;
    let open = company.open_alerts().await;
    let (id, of_endpoint) = open.first_key_value().unwrap();
    let name = |alert: &str| Name {
        connection: "default".to_owned(),
        kind: Kind::Alert,
        id: alert.to_owned(),
    };
    let of_identity = Change::Kept(Entry {
        name: name("of-identity"),
        keys: vec![id.clone()],
        body: json!({"id": "of-identity", "product": "microsoftDefenderForIdentity"}).to_string(),
    });
    let storage = &company.app.parts().storage;
    storage.file_assets(&[of_identity]).await.unwrap();
    let found = company.found(id).await.remove(0).alerts;
    assert_eq!(found.total, of_endpoint.len() + 1);
    let app = Company::app(
        &company.simulator,
        &company.clock,
        &company.folder,
        "machines,alerts",
        "mde",
    );
    let stop = CancellationToken::new();
    let Lookup::Found(answer) = find(&app, id, &stop).await.unwrap() else {
        panic!("{id} is known");
    };
    let told: BTreeSet<String> = answer.machines[0]
        .alerts
        .open
        .iter()
        .map(|alert| alert.id.clone())
        .collect();
    assert_eq!(&told, of_endpoint);
}

#[tokio::test]
async fn users_that_cannot_be_asked_for_are_explained() {
    let company = Company::new("machines", |options| {
        options.defender.roles.remove("User.Read.All");
    });
    company.pull().await;
    let id = company.ids().pop_first().unwrap();
    let found = company.found(&id).await.remove(0);
    assert_eq!(found.users, None);
    let why = found.users_missing.unwrap();
    assert!(
        why.contains("not permitted") && why.contains("User.Read.All"),
        "{why}"
    );
    // What was never pulled is not said to be none.
    assert_eq!(
        (found.synced.alerts, found.synced.vulnerabilities),
        (None, None)
    );

    let silent = Company::new("machines", |_| {});
    silent.pull().await;
    let fault = "defender.machine:503x*";
    silent.simulator.inject(Fault::parse(fault).unwrap());
    let began = silent.clock.now();
    let found = silent.found(&id).await.remove(0);
    let why = found.users_missing.unwrap();
    assert!(why.contains("no answer in time"), "{why}");
    let waited = silent.clock.now() - began;
    assert!(waited <= TimeDelta::seconds(10), "{waited}");
}

#[tokio::test]
async fn where_nothing_was_pulled_it_says_how_to_pull() {
    let company = Company::new("machines", |_| {});
    let unknown = company.look("10.1.2.3").await;
    assert!(
        matches!(&unknown, Lookup::Unknown(why) if why.contains("run DefenderTimer")),
        "{unknown:?}"
    );
    let app = Company::app(
        &company.simulator,
        &company.clock,
        &company.folder,
        "alerts",
        "graph",
    );
    let stop = CancellationToken::new();
    let unknown = find(&app, "10.1.2.3", &stop).await.unwrap();
    assert!(
        matches!(&unknown, Lookup::Unknown(why) if why.contains("DEFENDER_STREAMS")),
        "{unknown:?}"
    );
    for unclear in ["", "127.0.0.1"] {
        assert!(
            matches!(company.look(unclear).await, Lookup::Unclear(_)),
            "{unclear}"
        );
    }
}

fn machine(connection: &str, id: &str, seen: &str) -> Change {
    Change::Kept(Entry {
        name: Name {
            connection: connection.to_owned(),
            kind: Kind::Machine,
            id: id.to_owned(),
        },
        keys: [id, "10.1.2.3"].map(str::to_owned).into(),
        body: json!({"id": id, "name": format!("{id}\u{1b}[2J.contoso.com"), "lastSeen": seen})
            .to_string(),
    })
}

/// A file with two machines of two connections at one address.
async fn two_at_one_address() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = EmbeddedFile::open(folder.path()).unwrap();
    let storage = SqliteStorage::new(file).unwrap();
    let storage: &dyn Storage = &storage;
    let changes = [
        machine("contoso", "older", "2026-03-01T00:00:00Z"),
        machine("default", "newer", "2026-03-02T00:00:00Z"),
    ];
    storage.file_assets(&changes).await.unwrap();
    folder
}

#[tokio::test]
async fn the_function_answers_with_json_and_a_status() {
    let folder = two_at_one_address().await;
    let environment: Environment = [
        ("CONNECTOR_DATA", folder.path().to_str().unwrap()),
        ("STORAGE", "embedded"),
        ("SINK", "embedded"),
    ]
    .into_iter()
    .collect();
    let settings = Settings::load(&environment, Mode::Host);
    let served = Served::new(environment, settings, Arc::new(SystemClock));
    assert!(served.names().contains(&"Assets".to_owned()));
    let ask = async |query: Value| {
        let invocation = Invocation {
            id: "1".to_owned(),
            function: "Assets".to_owned(),
            data: json!({"req": {"Method": "GET", "Query": query}}),
            metadata: json!({}),
            stop: CancellationToken::new(),
        };
        let answer = served.run(invocation).await.unwrap();
        let res = answer.outputs["res"].clone();
        let body: Value = serde_json::from_str(res["body"].as_str().unwrap()).unwrap();
        (res["statusCode"].clone(), body)
    };
    let (status, body) = ask(json!({"find": "10.1.2.3"})).await;
    assert_eq!(status, 200, "{body:#}");
    let machines = body["machines"].as_array().unwrap();
    let ids: Vec<&Value> = machines.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["newer", "older"]);
    assert_eq!(machines[1]["connection"], "contoso");
    assert_eq!(machines[1]["users"], Value::Null);
    let why = machines[1]["usersMissing"].as_str().unwrap();
    assert!(why.contains("not configured"), "{why}");
    for (query, expected) in [
        (json!({"find": "10.9.9.9"}), 404),
        (json!({"find": "::1"}), 400),
        (json!({}), 400),
    ] {
        let (status, body) = ask(query).await;
        assert_eq!(status, expected, "{body:#}");
        assert!(body["error"].is_string(), "{body:#}");
    }
}

#[tokio::test]
async fn the_command_tells_people_and_exits_by_what_it_found() {
    let folder = two_at_one_address().await;
    let run = |arguments: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
            .args(arguments)
            .env_clear()
            .env("CONNECTOR_DATA", folder.path())
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let told = run(&["assets", "find", "10.1.2.3"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(0), "{text}");
    assert!(text.starts_with("newer"), "{text}");
    assert!(
        text.contains("contoso") && text.contains("not pulled yet"),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "a name may not steer the terminal: {text:?}"
    );
    let told = run(&["assets", "find", "NEWER", "--json"]);
    let answer: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(answer["machines"][0]["id"], "newer");
    let unknown = run(&["assets", "find", "10.9.9.9"]);
    assert_eq!(unknown.status.code(), Some(1));
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert!(text.contains("no machines are pulled"), "{text}");
}

#[tokio::test]
#[ignore = "a figure to look at: `cargo test --test it a_hundred_thousand -- --ignored --nocapture`; \
            that the number of machines does not matter is tested beside the statements"]
async fn a_hundred_thousand_machines_are_searched_in_milliseconds() {
    let company = Company::new("machines", |_| {});
    let storage = &company.app.parts().storage;
    let entry = |kind, id: String, keys: &[String], body: Value| {
        Change::Kept(Entry {
            name: Name {
                connection: "elsewhere".to_owned(),
                kind,
                id,
            },
            keys: keys.into(),
            body: body.to_string(),
        })
    };
    let id = |at: u32| format!("{:040x}", u128::from(at) * 0x9e37_79b9_7f4a_7c15);
    let address = |at: u32| std::net::Ipv4Addr::from(0x0a00_0000 + at).to_string();
    let clock = SystemClock;
    let began = clock.now();
    for some in (0..100_000_u32).collect::<Vec<_>>().chunks(2_000) {
        let mut changes = Vec::new();
        for at in some {
            let (id, name) = (id(*at), format!("pc-{at}"));
            let keys = [
                id.clone(),
                address(*at),
                format!("{name}.contoso.com"),
                name,
            ];
            let body = json!({"id": id, "name": keys[2], "addresses": [keys[1]], "lastSeen": "2026-03-01T00:00:00Z"});
            changes.push(entry(Kind::Machine, id.clone(), &keys, body));
            for cve in 0..5 {
                let cve = format!("CVE-2026-{}", (at + cve * 977) % 5_000);
                let body = json!({"cve": cve, "severity": "High", "product": "p"});
                let name = format!("{id}-_-{cve}-_-v-_-p-_-1-_-");
                changes.push(entry(
                    Kind::Vulnerability,
                    name,
                    std::slice::from_ref(&id),
                    body,
                ));
            }
        }
        storage.file_assets(&changes).await.unwrap();
    }
    let filed = clock.now() - began;
    let mut times = Vec::new();
    for at in (0..100_000).step_by(997) {
        for sought in [address(at), format!("PC-{at}"), id(at)] {
            let began = clock.now();
            let found = company.found(&sought).await;
            times.push((clock.now() - began).num_microseconds().unwrap());
            assert_eq!((found.len(), found[0].vulnerabilities.total), (1, 5));
        }
    }
    times.sort_unstable();
    let file = company.folder.path().join("connector.sqlite");
    println!(
        "filed in {filed}; found in {} us (median), {} us (slowest of {}); {} bytes",
        times[times.len() / 2],
        times[times.len() - 1],
        times.len(),
        std::fs::metadata(file).unwrap().len()
    );
}
