//! What scripts read: the JSON of each command, held against schemas/cli, and CSV beside it.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use sentinel_connector::{
    core::position::cursor::StreamKey,
    embedded::EmbeddedFile,
    storage::{DeadLetter, DeadLetters, Outbox, Parked, sqlite::SqliteStorage},
};
use serde_json::Value;

use crate::{tenant::Tenant, world::at};

/// A row that the embedded tables take.
const ROW: &str = r#"{"TimeGenerated":"2026-03-02T08:00:00.000Z","providerName":"ESET","streamName":"eset.detections","recordId":"a","batchId":"0000000000000000"}"#;

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/cli")
}

fn schema(name: &str) -> Value {
    let text = fs::read(schemas().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// What a command printed is what its schema says, and nothing beside it.
pub(crate) fn assert_follows(name: &str, printed: &str) -> Value {
    let value: Value = serde_json::from_str(printed)
        .unwrap_or_else(|error| panic!("{name}: no JSON ({error}): {printed}"));
    let schema = schema(name);
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{printed}");
    value
}

/// Commands over one tenant whose outbox and dead letters hold something.
struct Commands {
    tenant: Tenant,
    shown: BTreeSet<&'static str>,
}

impl Commands {
    async fn new() -> Self {
        let mut tenant = Tenant::new(|options| options.defender.estate.machines = 5).await;
        let beginnings = [
            "ESET_",
            "DEFENDER_",
            "GRAPH_",
            "AZURE_AUTHORITY_",
            "EXTRA_CA",
        ];
        tenant.settings.retain(|name, _| {
            beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning))
        });
        for (name, value) in [
            ("CONNECTOR_DATA", "./data"),
            ("DEFENDER_STREAMS", "machines"),
            ("LOG_LEVEL", "error"),
        ] {
            tenant.set(name, value);
        }
        let shown = BTreeSet::new();
        Self { tenant, shown }
    }

    fn storage(&self) -> SqliteStorage {
        let folder = self.tenant.folder.path().join("data");
        SqliteStorage::new(EmbeddedFile::open(&folder).unwrap()).unwrap()
    }

    /// Runs a command: its exit code, and what it printed on stdout.
    fn run(&self, arguments: &[&str], form: &str) -> (Option<i32>, String) {
        let arguments = [arguments, &["--output", form]].concat();
        let output = self.tenant.run(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.code() != Some(0) {
            eprintln!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        (output.status.code(), text)
    }

    /// A command's JSON, which its schema describes.
    fn json(&mut self, schema: &'static str, arguments: &[&str]) -> Value {
        let (code, printed) = self.run(arguments, "json");
        assert_eq!(code, Some(0), "{arguments:?}: {printed}");
        self.shown.insert(schema);
        assert_follows(schema, &printed)
    }

    /// A command's list as JSON, and as CSV: the same members of the same things.
    fn list(&mut self, name: &'static str, arguments: &[&str]) -> Value {
        let value = self.json(name, arguments);
        let (code, printed) = self.run(arguments, "csv");
        assert_eq!(code, Some(0), "{arguments:?}: {printed}");
        let things = value.as_array().unwrap();
        let mut reader = csv::Reader::from_reader(printed.as_bytes());
        let head = reader.headers().unwrap().clone();
        let schema = schema(name);
        let item = &schema["items"];
        let item = item["$ref"].as_str().map_or(item, |path| {
            schema.pointer(path.trim_start_matches('#')).unwrap()
        });
        for member in &head {
            let known = item["properties"].get(member).is_some();
            assert!(known || name == "rows", "{arguments:?}: {member}");
        }
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), things.len(), "{arguments:?}: {printed}");
        // Values that do not change from call to call are the same in both.
        for (record, thing) in records.iter().zip(things) {
            for (member, text) in head.iter().zip(record) {
                if let Value::String(value) = &thing[member]
                    && ["connection", "stream", "id", "name", "what"].contains(&member)
                {
                    assert_eq!(text, value, "{arguments:?}: {member}");
                }
            }
        }
        value
    }
}

async fn fill(storage: &SqliteStorage, ids: [&str; 2]) {
    let key = StreamKey::new("default", "eset.detections");
    let body = format!("[{ROW}]").into_bytes();
    for id in ids {
        let parked = Parked {
            id: format!("20260302T080000000000000-{id}"),
            key: key.clone(),
            table: "IntegrationTable_CL".to_owned(),
            at: at("2026-03-02T08:00:00Z"),
            rows: 1,
            bytes: body.len() as u64,
            reason: "an outage".to_owned(),
            body: body.clone(),
        };
        storage.park(&parked).await.unwrap();
        let letter = DeadLetter {
            id: format!("00000000000000{id}"),
            key: key.clone(),
            table: "IntegrationTable_CL".to_owned(),
            at: at("2026-03-02T08:00:00Z"),
            reason: "refused \"once\", or twice".to_owned(),
            body: ROW.as_bytes().to_vec(),
        };
        storage.bury(&[letter]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_command_prints_the_json_that_its_schema_describes_and_the_same_things_as_csv() {
    let mut commands = Commands::new().await;
    // What asks nobody.
    commands.list("columns", &["columns"]);
    commands.list("faults", &["simulate", "--list-faults"]);
    let tables = commands.json("tables", &["schema"]);
    let (_, csv) = commands.run(&["schema"], "csv");
    let columns = tables.as_object().unwrap().values();
    let columns: usize = columns.map(|one| one.as_array().unwrap().len()).sum();
    assert_eq!(csv.lines().count(), columns + 1);
    let (code, routed) = commands.run(&["routes", "arm", "--all-hunting"], "csv");
    assert_eq!(code, Some(0));
    assert!(routed.starts_with("stream,table,columns\n"), "{routed}");

    // What asks the simulated services.
    let found = commands.list("findings", &["check"]);
    let well = |one: &Value| one["found"] != "bad";
    assert!(found.as_array().unwrap().iter().all(well), "{found:#}");
    commands.list("findings", &["connections", "check", "default"]);
    commands.list("estimates", &["check", "--estimate"]);
    let reports = commands.list("reports", &["run"]);
    assert_eq!(reports.as_array().unwrap().len(), 4, "{reports:#}");
    let stands = commands.list("streams", &["cursor", "show"]);
    assert_eq!(stands.as_array().unwrap().len(), 4, "{stands:#}");
    for change in [
        &["pause"] as &[&str],
        &["resume"],
        &["set", "24h"],
        &["reset"],
    ] {
        let mut arguments = vec!["cursor", change[0], "eset.incidents"];
        arguments.extend(&change[1..]);
        commands.list("stream-changes", &arguments);
    }
    let sql = "SELECT deviceUuid AS id, streamName FROM IntegrationTable_CL \
               WHERE streamName = 'defender.machines' ORDER BY 1";
    let rows = commands.list("rows", &["query", sql]);
    let machine = rows[0]["id"].as_str().unwrap().to_owned();
    let answer = commands.json("assets", &["assets", "find", &machine]);
    let (_, printed) = commands.run(&["assets", "find", &machine], "csv");
    let mut reader = csv::Reader::from_reader(printed.as_bytes());
    let record = reader.records().next().unwrap().unwrap();
    assert_eq!(record[1], *answer["machines"][0]["id"].as_str().unwrap());

    // What waits, and what was refused.
    fill(&commands.storage(), ["aa", "bb"]).await;
    let waiting = commands.list("outbox", &["outbox", "list"]);
    let id = waiting[0]["id"].as_str().unwrap().to_owned();
    commands.list("rows", &["outbox", "show", &id]);
    let letters = commands.list("dead-letters", &["dead", "list"]);
    let letter = letters[0]["id"].as_str().unwrap().to_owned();
    let shown = commands.json("dead-letter", &["dead", "show", &letter]);
    assert_eq!(shown["body"], ROW);
    commands.json("entry-changes", &["outbox", "drop", &id]);
    commands.json("entry-changes", &["dead", "retry", &letter]);
    commands.json("reports", &["outbox", "retry"]);
    let letter = letters[1]["id"].as_str().unwrap();
    // What was done before an error is told as well.
    let (code, printed) = commands.run(&["dead", "drop", letter, "0"], "json");
    assert_eq!(code, Some(1));
    let dropped = assert_follows("entry-changes", &printed);
    assert_eq!(dropped.as_array().unwrap().len(), 1, "{dropped:#}");

    // The list of connections.
    commands.list("connections", &["connections", "list"]);
    commands.tenant.set("CONNECTIONS", "@connections.json");
    let add = ["connections", "add", "clinic", "eset"];
    commands.json("connection-change", &add);
    let disable = ["connections", "disable", "clinic"];
    commands.json("connection-change", &disable);

    // The outside world, whose settings are there before it is asked.
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--output", "json"];
    let mut simulate = commands.tenant.command(&arguments);
    let mut simulate = simulate
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(simulate.stdout.take().unwrap()).lines();
    let mut printed = String::new();
    for line in lines.map(Result::unwrap) {
        printed.push_str(&line);
        if line == "}" {
            break;
        }
    }
    simulate.kill().unwrap();
    simulate.wait().unwrap();
    let settings = assert_follows("settings", &printed);
    assert!(settings["EXTRA_CA_FILE"].is_string(), "{settings:#}");
    commands.shown.insert("settings");

    // `bench` is held against its own where it runs.
    commands.shown.extend(["bench", "bench-tenants"]);
    let files = fs::read_dir(schemas()).unwrap().map(|file| {
        let path = file.unwrap().path();
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    });
    let files: BTreeSet<String> = files.collect();
    let shown: BTreeSet<String> = commands.shown.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(
        files, shown,
        "a schema of no command, or a command of no schema"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_quiet_hears_what_is_wrong_and_what_was_asked_for() {
    let commands = Commands::new().await;
    let run = |arguments: &[&str]| {
        let output = commands.tenant.run(arguments);
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
    let nothing = (Some(0), String::new(), String::new());
    assert_eq!(run(&["run", "EsetTimer", "--quiet"]), nothing);
    assert_eq!(run(&["check", "-q"]), nothing);
    assert_eq!(run(&["cursor", "pause", "eset.incidents", "-q"]), nothing);
    let (_, shown, _) = run(&["cursor", "show", "eset.incidents", "-q"]);
    assert!(shown.contains("is paused since"), "{shown}");
    let mut wrong = commands.tenant.command(&["check", "-q", "--offline"]);
    let output = wrong.env("ESET_REGION", "mars").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.starts_with("BAD   ESET_REGION"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_is_wrong_first_and_leaves_defaults_out_unless_all_are_wanted() {
    let commands = Commands::new().await;
    let check = |more: &[&str]| {
        let arguments = [&["check", "--offline"], more].concat();
        let mut command = commands.tenant.command(&arguments);
        let output = command
            .envs([("ESET_STREAMS", "detection"), ("LOG_LEVL", "debug")])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = check(&[]);
    let verdicts: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let bad = verdicts.iter().filter(|word| **word == "BAD").count();
    let notes = verdicts.iter().filter(|word| **word == "note").count();
    assert!(bad == 1 && notes == 1, "{printed}");
    assert_eq!(verdicts[..3], ["BAD", "note", "ok"], "{printed}");
    assert!(printed.contains("did you mean `detections`"), "{printed}");
    assert!(printed.contains("did you mean `LOG_LEVEL`"), "{printed}");
    assert!(printed.contains("ESET_REGION"), "{printed}");
    assert!(!printed.contains("OUTBOX_MAX_BYTES"), "{printed}");
    assert!(printed.contains("`check --all` shows them"), "{printed}");
    let all = check(&["--all"]);
    assert!(all.contains("OUTBOX_MAX_BYTES"), "{all}");
}
