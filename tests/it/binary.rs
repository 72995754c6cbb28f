//! The binary, started as the Functions host and as people start it, over real HTTPS.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sentinel_connector::{
    embedded::EmbeddedFile,
    simulator::{Fault, Options},
    sink::workspace::Workspace,
};

use crate::tenant::{Served, Tenant, assert_adds_up, body};

/// Everything embedded, in a folder of the tenant's.
pub(crate) async fn embedded(change: impl FnOnce(&mut Options)) -> Tenant {
    let mut tenant = Tenant::new(change).await;
    tenant.settings.retain(|name, _| {
        name.starts_with("ESET_") || ["EXTRA_CA_FILE", "LOG_LEVEL"].contains(&name.as_str())
    });
    let folder = data(&tenant);
    tenant.set("CONNECTOR_DATA", folder.to_str().unwrap());
    tenant.set("STORAGE", "embedded");
    tenant.set("SINK", "embedded");
    tenant
}

fn data(tenant: &Tenant) -> PathBuf {
    tenant.folder.path().join("data")
}

async fn landed(tenant: &Tenant, table: &str) -> BTreeMap<String, u64> {
    let workspace = Workspace::new(EmbeddedFile::open(&data(tenant)).unwrap()).unwrap();
    let sql =
        format!("SELECT recordId, count(*) FROM {table} WHERE providerName = 'ESET' GROUP BY 1");
    let rows = workspace.query(&sql).await.unwrap().rows.into_iter();
    rows.map(|row| {
        let times = row[1].as_deref().unwrap().parse().unwrap();
        (row[0].clone().unwrap(), times)
    })
    .collect()
}

/// Every detection of the day before the first run, and none twice.
async fn assert_complete(tenant: &Tenant) {
    tenant.assert_all_once(&landed(tenant, "IntegrationTable_CL").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_gets_a_report_and_the_tables_their_rows() {
    let tenant = embedded(|_| {}).await;
    let served = Served::start(&tenant).await;
    let answer = served.invoke("EsetTimer").await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "{answer}\n{}",
        served.printed()
    );
    let report = body(&answer);
    assert_eq!(report["Outputs"], serde_json::json!({}));
    let streams = report["ReturnValue"]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 3);
    assert!(
        streams
            .iter()
            .all(|stream| stream["outcome"] == "up-to-date"),
        "{report}"
    );
    assert_complete(&tenant).await;

    let lines: Vec<serde_json::Value> = served
        .printed()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let done: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "stream done")
        .collect();
    assert_eq!(done.len(), 3);
    for line in done {
        assert_eq!(
            line["invocation_id"],
            "6f1c4d3e-0000-4000-8000-00000000beef"
        );
        assert_eq!(line["function"], "EsetTimer");
        assert_eq!(line["connection"], "default");
        assert!(line["stream"].as_str().unwrap().starts_with("eset."));
        // One line adds up, whatever became of the records.
        assert_adds_up(line);
    }
    tenant.assert_no_secret(&served.printed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_where_everything_stands() {
    let tenant = embedded(|_| {}).await;
    let served = Served::start(&tenant).await;
    assert!(served.invoke("EsetTimer").await.starts_with("HTTP/1.1 200"));
    let text = served.status().await;
    tenant.assert_no_secret(&text);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["well"], true, "{status:#}");
    let streams = status["streams"].as_array().unwrap();
    let said = |name: &str| {
        streams
            .iter()
            .find(|stream| stream["stream"] == name)
            .unwrap()["says"]
            .to_string()
    };
    assert!(
        said("eset.detections").contains("follows the feed"),
        "{status:#}"
    );
    assert!(
        said("eset.incidents").contains("has read everything until"),
        "{status:#}"
    );
    assert_eq!(status["deadLetters"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_loses_nothing_and_repeats_nothing() {
    let tenant = embedded(|options| options.calls_per_second = None).await;
    let mut killed = 0;
    // One stream after the other hangs in the middle, and is killed there.
    for fault in [
        "eset.detections.window:never@1",
        "eset.cloud-office:never@2",
        "eset.incidents.get:never@3",
    ] {
        tenant.simulator.inject(Fault::parse(fault).unwrap());
        killed += 1;
        let served = Served::start(&tenant).await;
        let invoke = served.invoke("EsetTimer");
        tokio::select! {
            answer = invoke => panic!("{fault} did not hang: {answer}"),
            () = tenant.simulator.kept_waiting(killed) => served.signal("-9"),
        }
        assert!(!served.ended().await.success());
    }
    let served = Served::start(&tenant).await;
    let answer = served.invoke("EsetTimer").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_complete(&tenant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_run_saves_and_exits_with_zero() {
    let tenant = embedded(|_| {}).await;
    let served = Served::start(&tenant).await;
    tenant
        .simulator
        .inject(Fault::parse("eset.incidents:never").unwrap());
    let done = async {
        tenant.simulator.kept_waiting(1).await;
        served.signal("-TERM");
    };
    let (answer, ()) = tokio::join!(served.invoke("EsetTimer"), done);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("behind"), "{answer}");
    assert!(answer.contains("asked to stop"), "{answer}");
    assert_eq!(served.ended().await.code(), Some(0));

    let served = Served::start(&tenant).await;
    assert!(served.invoke("EsetTimer").await.starts_with("HTTP/1.1 200"));
    assert_complete(&tenant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_a_run_which_says_what_is_saved() {
    let mut tenant = embedded(|_| {}).await;
    tenant.set("LOG_LEVEL", "error");
    tenant
        .simulator
        .inject(Fault::parse("eset.incidents:never").unwrap());
    let run = tenant
        .command(&["run", "EsetTimer"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tenant.simulator.kept_waiting(1).await;
    let sent = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = tokio::task::spawn_blocking(|| run.wait_with_output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    for words in [
        "note: stopped as asked: ",
        " rows landed, and each position behind them is saved",
        "the next run goes on with 1 stream from there",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    tenant.run(&["run", "EsetTimer"]);
    assert_complete(&tenant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_the_answer_to_each_call() {
    let mut tenant = embedded(|_| {}).await;
    tenant.set("ESET_REGION", "mars");
    let served = Served::start(&tenant).await;
    let answer = served.invoke("EsetTimer").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("ESET_REGION"), "{answer}");
    assert!(
        served.printed().contains("ESET_REGION"),
        "{}",
        served.printed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_is_well_and_says_what_is_not() {
    let mut tenant = embedded(|_| {}).await;
    let output = tenant.run(&["check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("default: login"), "{printed}");
    assert!(!printed.contains("BAD"), "{printed}");

    tenant
        .simulator
        .inject(Fault::parse("eset.cloud-office.window:501x*").unwrap());
    let output = tenant.run(&["check"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let bad: Vec<_> = printed
        .lines()
        .filter(|line| line.starts_with("BAD"))
        .collect();
    assert_eq!(bad.len(), 1, "{printed}");
    assert!(
        bad[0].contains("eset.cloud-office") && bad[0].contains("ESET_PRODUCTS"),
        "{}",
        bad[0]
    );

    let output = tenant
        .command(&["check"])
        .env("ESET_PASSWORD", "wrong")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let login = printed
        .lines()
        .find(|line| line.contains("default: login"))
        .unwrap();
    assert!(
        login.starts_with("BAD") && login.contains("password"),
        "{login}"
    );

    let before = tenant.simulator.calls().len();
    let output = tenant.run(&["check", "--offline"]);
    assert!(output.status.success());
    assert_eq!(
        tenant.simulator.calls().len(),
        before,
        "offline asks nobody"
    );
    let given = tenant.settings.clone();
    for (name, value) in [
        ("ROUTES", "eset.nothing=Custom-A_CL"),
        ("DEFENDER_HUNTING_TABLES", "DeviceEvent"),
    ] {
        tenant.settings = given.clone();
        let more = [("DEFENDER_TENANT_ID", "contoso"), (name, value)];
        tenant
            .settings
            .extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let output = tenant.run(&["check", "--offline"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let bad: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("BAD"))
            .collect();
        assert_eq!(bad.len(), 1, "{text}");
        assert!(bad[0].contains(name) && bad[0].contains(value.split('=').next().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_and_cursor_work_from_local_settings() {
    let mut tenant = embedded(|_| {}).await;
    let file = tenant.folder.path().join("local.settings.json");
    let settings = serde_json::json!({ "Values": std::mem::take(&mut tenant.settings) });
    fs::write(&file, settings.to_string()).unwrap();
    let command = |arguments: &[&str]| {
        let output = tenant.run(arguments);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, printed, errors) = command(&["run", "EsetTimer", "--once"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_complete(&tenant).await;

    let (code, printed, _) = command(&["cursor", "show"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("eset.detections\n  follows the feed; has read everything"),
        "{printed}"
    );

    let (code, printed, _) = command(&["cursor", "set", "eset.detections", "24h"]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, _, _) = command(&["run"]);
    assert_eq!(code, Some(0));
    assert_complete(&tenant).await;

    let once = landed(&tenant, "IntegrationTable_CL").await;
    let (code, ..) = command(&["cursor", "reset", "eset.detections", "--again"]);
    assert_eq!(code, Some(0));
    let (code, ..) = command(&["run"]);
    assert_eq!(code, Some(0));
    let again = landed(&tenant, "IntegrationTable_CL").await;
    assert!(
        again.values().any(|times| *times == 2),
        "asked to land again"
    );
    assert!(again.len() >= once.len());

    let (code, _, errors) = command(&["cursor", "set", "eset.nothing", "24h"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is no stream `eset.nothing`; there are eset.detections"),
        "{errors}"
    );
    let (code, _, errors) = command(&["run", "esettimer"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is no function `esettimer`; there are EsetTimer"),
        "{errors}"
    );
}

/// Whoever calls it from a script looks at the exit code alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_or_leaves_rows_waiting_ends_with_1_and_one_that_is_well_with_0() {
    let mut tenant = Tenant::new(|_| {}).await;
    tenant.unset("DEFENDER_");
    let folder = data(&tenant);
    tenant.set("CONNECTOR_DATA", folder.to_str().unwrap());
    tenant.set("STORAGE", "embedded");
    tenant.set("SINK", "logs-ingestion");
    let once = || {
        let mut command = tenant.command(&["run", "EsetTimer", "--once"]);
        // Rows wait when the run is over in which they were pushed again and again.
        let output = command.env("RUN_BUDGET_SECONDS", "10").output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let inject = |fault| tenant.simulator.inject(Fault::parse(fault).unwrap());

    inject("ingestion:503x*");
    let (code, errors) = once();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("wait in the outbox"), "{errors}");
    tenant.simulator.heal();
    let output = tenant.run(&["run", "SentinelPush"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    inject("eset.incidents:403x*");
    let (code, errors) = once();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("eset.incidents"), "{errors}");
    tenant.simulator.heal();
    let (code, errors) = once();
    assert_eq!(code, Some(0), "{errors}");
}

/// Two connections, of which a command takes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_keep_to_the_connection_that_they_are_given() {
    let mut tenant = Tenant::new(|_| {}).await;
    let folder = data(&tenant);
    for (name, value) in [
        ("CONNECTOR_DATA", folder.to_str().unwrap()),
        ("STORAGE", "embedded"),
        ("SINK", "embedded"),
        ("DEFENDER_STREAMS", "machines"),
        (
            "CONNECTIONS",
            r#"[{"name":"home","source":"eset"},{"name":"clinic","source":"defender"}]"#,
        ),
    ] {
        tenant.set(name, value);
    }
    let command = |arguments: &[&str]| {
        let output = tenant.run(arguments);
        let (out, err) = (output.stdout, output.stderr);
        let printed = [out, err].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), printed.concat())
    };
    let (code, printed) = command(&["run", "--once", "--connection", "clinic"]);
    assert_eq!(code, Some(0), "{printed}");
    let workspace = Workspace::new(EmbeddedFile::open(&folder).unwrap()).unwrap();
    let landed = "SELECT DISTINCT connectionName, streamName FROM IntegrationTable_CL \
                  WHERE streamName <> 'connector.health'";
    let rows = workspace.query(landed).await.unwrap().rows;
    let row = ["clinic", "defender.machines"].map(|text| Some(text.to_owned()));
    assert_eq!(rows, [row.to_vec()]);

    let (code, printed) = command(&["check", "--connection", "clinic"]);
    assert_eq!(code, Some(0), "{printed}");
    let asked = |printed: &str, connection: &str| printed.contains(&format!("{connection}: "));
    assert!(
        asked(&printed, "clinic") && !asked(&printed, "home"),
        "{printed}"
    );
    let (_, printed) = command(&["check"]);
    assert!(
        asked(&printed, "clinic") && asked(&printed, "home"),
        "{printed}"
    );

    for of_one in ["run", "check"] {
        let (code, printed) = command(&[of_one, "--connection", "nobody"]);
        assert_eq!(code, Some(1), "{printed}");
        let known = "there is no connection `nobody`; there are `home`, `clinic`";
        assert!(printed.contains(known), "{printed}");
    }

    let (code, printed) = command(&["check", "--estimate", "--connection", "clinic"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("defender.machines"), "{printed}");
    assert!(
        !printed.contains("defender.alerts") && !printed.contains("eset."),
        "{printed}"
    );
    let (code, printed) = command(&["check", "--estimate", "--all-streams"]);
    assert_eq!(code, Some(0), "{printed}");
    for stream in [
        "eset.incidents",
        "defender.vulnerabilities",
        "defender.hunting.EmailEvents",
    ] {
        assert!(printed.contains(stream), "{stream}: {printed}");
    }
    // It is not switched on by that.
    let (code, _) = command(&["check", "--all-streams"]);
    assert_eq!(code, Some(2), "only an estimate can be of all");
}

fn plain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What the demo pulls.
const ALL_STREAMS: [&str; 11] = [
    "eset.detections",
    "eset.cloud-office",
    "eset.incidents",
    "defender.machines",
    "defender.vulnerabilities",
    "defender.vulnerability-catalogue",
    "defender.software-vulnerabilities",
    "defender.alerts",
    "defender.incidents",
    "defender.hunting.DeviceLogonEvents",
    "defender.hunting.DeviceProcessEvents",
];

/// `4188 records pulled = 3814 landed + …`: both sides are the same.
fn the_equation_holds(printed: &str) {
    let line = printed.lines().find(|line| line.contains("records pulled"));
    let (pulled, became) = line.unwrap().split_once('=').unwrap();
    let sum = |side: &str| -> u64 {
        side.split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    };
    assert!(sum(pulled) > 0);
    assert_eq!(sum(pulled), sum(became), "{line:?}");
    assert!(!became.contains("read again"), "{line:?}");
}

#[test]
fn the_demo_needs_nothing_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let first = plain(folder.path(), &["demo"]);
    let printed = String::from_utf8(first.stdout).unwrap();
    assert!(
        first.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&first.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&first.stderr), "");
    assert_eq!(
        printed.matches("sentinel-connector query \"SELECT").count(),
        5
    );
    // A line per stream, and one in the table; each has come to its end.
    for stream in ALL_STREAMS {
        let lines: Vec<&str> = printed
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == stream))
            .collect();
        assert_eq!(lines.len(), 2, "{stream}: {printed}");
        assert!(lines[0].contains("up to date in"), "{}", lines[0]);
    }
    the_equation_holds(&printed);

    let count = || {
        let sql = "SELECT count(*) AS n, count(DISTINCT streamName || recordId || recordVersion) \
                   AS ids FROM IntegrationTable_CL WHERE streamName <> 'connector.health'";
        String::from_utf8(plain(folder.path(), &["query", sql]).stdout).unwrap()
    };
    let numbers = |table: &str| -> Vec<u64> {
        table
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let before = numbers(&count());
    assert!(before[0] > 3000, "{before:?}");
    assert_eq!(before[0], before[1]);
    // The queries that it prints work.
    for line in printed
        .lines()
        .filter(|line| line.contains(" query \"SELECT"))
    {
        let sql = line.split('"').nth(1).unwrap();
        let answer = plain(folder.path(), &["query", sql]);
        assert!(
            answer.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        assert!(
            String::from_utf8(answer.stdout).unwrap().lines().count() > 4,
            "{sql}"
        );
    }
    // So does the search for a machine, which has what the query before it shows.
    let name = printed.split("The vulnerabilities of ").nth(1).unwrap();
    let name = name.split(',').next().unwrap();
    let find = printed.split("sentinel-connector assets find ").nth(1);
    let address = find.unwrap().lines().next().unwrap();
    let found = plain(folder.path(), &["assets", "find", address]);
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.lines().any(|line| line == name), "{name}: {found}");
    assert!(found.contains("CVE-"), "{found}");

    let second = plain(folder.path(), &["demo"]);
    assert!(second.status.success());
    the_equation_holds(&String::from_utf8(second.stdout).unwrap());
    let after = numbers(&count());
    assert_eq!(after[0], after[1], "nothing lands twice");
    assert!(
        after[0] >= before[0] && after[0] < before[0] + 100,
        "{before:?} then {after:?}"
    );
}

#[test]
fn wrong_use_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["fly"] as &[&str],
        &[],
        &["run", "--nope"],
        &["cursor", "set", "eset.detections", "yesterday"],
        &["simulate", "--listen", "0.0.0.0:7443"],
        &["simulate", "--fault", "eset.detections:9000"],
    ] {
        let output = plain(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            errors.trim_end().lines().count(),
            1,
            "{arguments:?}: {errors}"
        );
        assert!(output.stdout.is_empty());
    }
    let help = plain(folder.path(), &["--help"]);
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Examples:")
    );
}

#[test]
fn without_settings_everything_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["run"] as &[&str], &["check"]] {
        let output = plain(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("ESET_LOGIN"), "{printed}");
    }
    let output = plain(folder.path(), &["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("FUNCTIONS_CUSTOMHANDLER_PORT"), "{errors}");
}
