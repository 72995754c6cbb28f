//! The list of connections in a file or a blob: read again without a restart, changed by commands.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use chrono::TimeDelta;
use sentinel_connector::{
    app::live::Live,
    config::{Environment, Mode, Settings},
    error::Kind,
    io::clock::VirtualClock,
    storage::azure::{AzureStorage, Changed},
};
use serde_json::{Value, json};

use crate::{
    azurite::{Azurite, Way, parsed, signed_in, wire},
    tenant::{Served, Tenant, body},
    world::START,
};

const LIST: &str = "connections.json";

/// A tenant whose list of connections is a file.
async fn listed() -> (Tenant, PathBuf) {
    let mut tenant = Tenant::new(|options| options.calls_per_second = None).await;
    let data = tenant.folder.path().join("data");
    for (name, value) in [
        ("CONNECTOR_DATA", data.to_str().unwrap()),
        ("STORAGE", "embedded"),
        ("SINK", "embedded"),
        ("ESET_STREAMS", "incidents"),
        ("CONNECTIONS", "@connections.json"),
    ] {
        tenant.set(name, value);
    }
    tenant.unset("KEY_VAULT_URL");
    let file = tenant.folder.path().join(LIST);
    (tenant, file)
}

/// What a run of a function says of each connection: its name, and how it ended.
fn ends(answer: &str) -> Vec<(String, String)> {
    let answer = body(answer);
    let reports = ["ReturnValue", "report"].map(|name| &answer[name]["streams"]);
    let streams = reports.into_iter().find_map(Value::as_array).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut ends: Vec<_> = streams
        .iter()
        .map(|one| (text(&one["connection"]), text(&one["outcome"])))
        .collect();
    ends.sort();
    ends
}

fn names(answer: &str) -> Vec<String> {
    let names = ends(answer).into_iter().map(|(name, _)| name);
    names.collect()
}

/// Runs a command: its exit code, and what it printed.
fn command(tenant: &Tenant, arguments: &[&str]) -> (i32, String, String) {
    let output = tenant.run(arguments);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), out, err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_read_again_without_a_restart_and_the_last_good_list_stays_in_force() {
    let (tenant, file) = listed().await;
    let served = Served::start(&tenant).await;
    let answer = served.invoke("EsetTimer").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(
        answer.contains("file `connections.json`, which is missing"),
        "{answer}"
    );
    let status = served.status().await;
    assert!(status.contains("which is missing"), "{status}");

    fs::write(&file, r#"[{"name":"one","source":"eset"}]"#).unwrap();
    assert_eq!(names(&served.invoke("EsetTimer").await), ["one"]);
    // A wrong one stops itself alone, and is named by its place.
    let list = r#"[{"name":"one","source":"eset"},
        {"name":"two","source":"eset","settings":{"ESET_PASSWORD":"canary-7f3a"}},
        {"name":"three","source":"eset"}, "four"]"#;
    fs::write(&file, list).unwrap();
    let answer = served.invoke("EsetTimer").await;
    let failed = |name: &str| (name.to_owned(), "failed".to_owned());
    let ends = ends(&answer);
    assert_eq!(names(&answer), ["element-4", "one", "three", "two"]);
    assert!(
        ends.contains(&failed("two")) && ends.contains(&failed("element-4")),
        "{ends:?}"
    );
    assert_eq!(
        ends.iter().filter(|(_, end)| end == "failed").count(),
        2,
        "{ends:?}"
    );
    for says in [
        "`CONNECTIONS` connection `two`: `ESET_PASSWORD` is a secret",
        "`TWO_ESET_PASSWORD` (element 2 of `CONNECTIONS`)",
        "element 4: is not an object",
    ] {
        assert!(answer.contains(says), "{says}: {answer}");
    }
    assert!(!answer.contains("canary") && !served.printed().contains("canary"));

    // Rubbish, nothing and no file: what was read before goes on, and it is told.
    fs::write(
        &file,
        r#"[{"name":"one","source":"eset"},{"name":"three","source":"eset"}]"#,
    )
    .unwrap();
    assert_eq!(names(&served.invoke("EsetTimer").await), ["one", "three"]);
    for (text, says) in [
        (Some("[{"), "is not a JSON array: line 1"),
        (Some(""), "is empty"),
        (
            Some(r#"[{"name":"one","source":"eset","settings":{"ESET_REGION":"mars"}}]"#),
            "is `mars`",
        ),
        (None, "is missing"),
    ] {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let answer = served.invoke("EsetTimer").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(names(&answer), ["one", "three"], "{says}");
        let told = body(&answer)["ReturnValue"]["connections"].to_string();
        assert!(
            told.contains("read before") && told.contains(says),
            "{told}"
        );
        let status = served.status().await;
        assert!(
            status.contains("is in force as it was read before") && status.contains(says),
            "{status}"
        );
        assert!(served.printed().contains(says), "{}", served.printed());
    }
    fs::write(
        &file,
        r#"[{"name":"three","source":"eset"},{"name":"one","source":"eset","disabled":true}]"#,
    )
    .unwrap();
    let answer = served.invoke("EsetTimer").await;
    assert_eq!(names(&answer), ["three"]);
    assert!(
        body(&answer)["ReturnValue"]["connections"].is_null(),
        "{answer}"
    );
}

/// What is wrong is not written, and a secret is not repeated.
fn refuses_what_is_wrong(tenant: &Tenant) {
    for (arguments, says) in [
        (&["home", "eset"][..], "there is a connection `home`"),
        (&["Farm", "eset"], "`name` must begin"),
        (&["farm", "sentinel"], "`source` must be"),
        (
            &["farm", "eset", "--every", "often"],
            "it must be a duration",
        ),
        (&["farm", "eset", "--set", "ESET_REGION=mars"], "is `mars`"),
        (
            &["farm", "eset", "--set", "ESET_PASSWORD=canary-7f3a"],
            "`FARM_ESET_PASSWORD`",
        ),
        (&["farm", "eset", "--set", "canary-7f3a"], "`--set` takes"),
    ] {
        let (code, out, err) = command(tenant, &[&["connections", "add"], arguments].concat());
        assert!(code == 1 && err.contains(says), "{arguments:?}: {out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_listed_added_checked_and_disabled_by_commands() {
    let (mut tenant, file) = listed().await;
    tenant.secrets.push("canary-7f3a".to_owned());
    let (code, _, err) = command(&tenant, &["connections", "list"]);
    assert!(code == 1 && err.contains("which is missing"), "{err}");

    let (code, out, err) = command(&tenant, &["connections", "add", "home", "eset"]);
    assert!(
        code == 0 && out.contains("`home` is on in file"),
        "{out}{err}"
    );
    let add = [
        "connections",
        "add",
        "clinic",
        "eset",
        "--every",
        "15m",
        "--set",
        "ESET_LOGIN=api@clinic.example",
        "--json",
    ];
    let (code, out, err) = command(&tenant, &add);
    assert_eq!(code, 0, "{err}");
    // Its secret may be where the app runs.
    assert!(
        err.contains("`CLINIC_ESET_PASSWORD` of connection `clinic` is not set"),
        "{err}"
    );
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        said,
        json!({"name": "clinic", "state": "on", "place": "file `connections.json`"})
    );
    let kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let expected = json!([
        {"name": "home", "source": "eset"},
        {"name": "clinic", "source": "eset", "every": "15m", "settings": {"ESET_LOGIN": "api@clinic.example"}},
    ]);
    assert_eq!(kept, expected);

    refuses_what_is_wrong(&tenant);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);

    let list = |tenant: &Tenant| -> Vec<(String, String)> {
        let (code, out, err) = command(tenant, &["connections", "list", "--json"]);
        assert_eq!(code, 0, "{err}");
        let list: Vec<Value> = serde_json::from_str(&out).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list.iter()
            .map(|one| (text(&one["name"]), text(&one["state"])))
            .collect()
    };
    let pair = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(list(&tenant), [pair("home", "on"), pair("clinic", "wrong")]);
    let (_, out, _) = command(&tenant, &["connections", "list"]);
    assert!(
        out.contains("element 2") && out.contains("`CLINIC_ESET_PASSWORD`"),
        "{out}"
    );

    let (code, out, _) = command(&tenant, &["connections", "check", "home", "--json"]);
    assert_eq!(code, 1, "`clinic` has no password: {out}");
    let findings: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert!(
        findings
            .iter()
            .any(|one| one["what"] == "home: login" && one["found"] == "ok"),
        "{out}"
    );
    let (code, _, err) = command(&tenant, &["connections", "check", "nobody"]);
    assert!(
        code == 1 && err.contains("there is no connection `nobody`"),
        "{err}"
    );

    let (code, out, _) = command(&tenant, &["connections", "disable", "clinic"]);
    assert!(
        code == 0 && out.contains("`clinic` is disabled in file"),
        "{out}"
    );
    assert_eq!(
        list(&tenant),
        [pair("home", "on"), pair("clinic", "disabled")]
    );
    let (code, out, _) = command(&tenant, &["connections", "check", "home"]);
    assert!(code == 0 && out.contains("home: login"), "{out}");
    let (code, _, err) = command(&tenant, &["connections", "check", "clinic"]);
    assert!(code == 1 && err.contains("is disabled"), "{err}");
    let (code, _, err) = command(&tenant, &["connections", "disable", "nobody"]);
    assert!(
        code == 1 && err.contains("there is no connection `nobody`"),
        "{err}"
    );
    command(&tenant, &["connections", "disable", "clinic", "--undo"]);
    assert_eq!(list(&tenant), [pair("home", "on"), pair("clinic", "wrong")]);

    // A list in the settings themselves is changed there.
    tenant.set("CONNECTIONS", r#"[{"name":"home","source":"eset"}]"#);
    assert_eq!(list(&tenant), [pair("home", "on")]);
    let (code, _, err) = command(&tenant, &["connections", "add", "farm", "eset"]);
    assert!(code == 1 && err.contains("`@connections.json`"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_read_again_when_its_etag_changes() {
    let (mut tenant, _) = listed().await;
    let account = Azurite::shared().fresh();
    tenant.set("STORAGE", "azure");
    tenant.set("SINK", "logs-ingestion");
    tenant.set("AzureWebJobsStorage", &account);
    tenant.set("CONNECTIONS", "@blob:lists/connections.json");
    let served = Served::start(&tenant).await;
    let answer = served.invoke("EsetTimer").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    let missing =
        "blob `lists/connections.json` of container `sentinel-connector`, which is missing";
    assert!(answer.contains(missing), "{answer}");

    let add = |name: &str| {
        let (code, out, err) = command(&tenant, &["connections", "add", name, "eset"]);
        assert_eq!(code, 0, "{out}{err}");
    };
    add("one");
    assert_eq!(names(&served.invoke("EsetTimer").await), ["one"]);
    add("two");
    assert_eq!(names(&served.invoke("EsetTimer").await), ["one", "two"]);

    let storage = AzureStorage::new(signed_in(parsed(&account)), wire());
    let blob = "lists/connections.json";
    let Changed::To(Some((_, etag))) = storage.connections(blob, None).await.unwrap() else {
        panic!("there is a list");
    };
    let again = storage.connections(blob, Some(&etag)).await.unwrap();
    assert!(matches!(again, Changed::No), "{again:?}");
    // Nobody overwrites what somebody else has written since it was read.
    let write = |text: &str, known: Option<String>| {
        let (storage, text) = (&storage, text.to_owned());
        async move {
            storage
                .set_connections(blob, text, known.as_deref())
                .await
                .unwrap()
        }
    };
    assert!(!write("[]", None).await);
    assert!(write("rubbish", Some(etag.clone())).await);
    assert!(!write("[]", Some(etag)).await);

    let answer = served.invoke("EsetTimer").await;
    assert_eq!(names(&answer), ["one", "two"]);
    let told = body(&answer)["ReturnValue"]["connections"].to_string();
    assert!(told.contains("is not a JSON array"), "{told}");
    let (code, _, err) = command(&tenant, &["connections", "add", "three", "eset"]);
    assert!(code == 1 && err.contains("mend it first"), "{err}");
    // Offline nobody is asked.
    let (code, out, err) = command(&tenant, &["check", "--offline"]);
    assert!(
        code == 0 && err.contains("is not read: it is a blob"),
        "{out}{err}"
    );
    let (code, out, _) = command(&tenant, &["check"]);
    assert!(
        code == 1 && out.contains("which is not a JSON array"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_stays_in_force_while_its_storage_account_is_away() {
    let account = Azurite::shared().fresh();
    let list = r#"[{"name":"one","source":"eset"}]"#;
    let storage = AzureStorage::new(signed_in(parsed(&account)), wire());
    let written = storage.set_connections(LIST, list.to_owned(), None).await;
    assert!(written.unwrap());
    let way = Way::to(&account, TimeDelta::zero()).await;
    let (mut tenant, _) = listed().await;
    for (name, value) in [
        ("STORAGE", "azure"),
        ("SINK", "logs-ingestion"),
        ("AzureWebJobsStorage", &way.connection_string),
        ("CONNECTIONS", "@blob:connections.json"),
    ] {
        tenant.set(name, value);
    }
    let settings = tenant.settings.iter();
    let environment: Environment = settings
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let settings = Settings::load(&environment, Mode::Host);
    let clock = VirtualClock::new(START.parse().unwrap());
    let live = Live::new(environment, Mode::Host, settings, Arc::new(clock.clone()));
    let near = live.in_force().await;
    let app = near.app.unwrap();
    assert!(near.stale.is_none(), "{:?}", near.stale);

    drop(way);
    clock.advance(Duration::from_mins(5));
    let away = live.in_force().await;
    assert!(Arc::ptr_eq(&away.app.unwrap(), &app));
    let stale = away.stale.unwrap();
    assert_eq!(stale.kind(), Kind::Transient, "{stale}");
    let text = stale.to_string();
    assert!(
        text.starts_with("`CONNECTIONS` names blob `connections.json`")
            && text.contains("which can't be read"),
        "{text}"
    );
    let settings = Settings::load(&away.environment, Mode::Host).unwrap();
    assert_eq!(settings.connections.len(), 1);
}

#[tokio::test]
async fn a_storage_account_that_is_away_is_told_before_there_is_a_list() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let nobody = format!("http://127.0.0.1:{port}/test");
    let account =
        format!("AccountName=test;AccountKey=a2V5;TableEndpoint={nobody};BlobEndpoint={nobody}");
    let in_force = async |storage: &str, list: &str| {
        let environment: Environment = [
            ("SINK", "embedded"),
            ("STORAGE", storage),
            ("AzureWebJobsStorage", account.as_str()),
            ("CONNECTIONS", list),
        ]
        .into_iter()
        .collect();
        let settings = Settings::load(&environment, Mode::Host);
        let clock = Arc::new(VirtualClock::new(START.parse().unwrap()));
        Live::new(environment, Mode::Host, settings, clock)
            .in_force()
            .await
    };
    let now = in_force("azure", "@blob:connections.json").await;
    let error = now.app.err().unwrap();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(error.to_string().contains("which can't be read"), "{error}");
    let told = Settings::load(&now.environment, Mode::Host)
        .unwrap_err()
        .to_string();
    assert!(
        told.starts_with("`CONNECTIONS` names blob `connections.json`"),
        "{told}"
    );

    let error = in_force("embedded", "@blob:connections.json")
        .await
        .app
        .err()
        .unwrap();
    assert!(error.to_string().contains("set `STORAGE=azure`"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let named = format!("@{}", folder.path().display());
    let error = in_force("embedded", &named).await.app.err().unwrap();
    assert!(
        error.to_string().contains("can't be read"),
        "a folder is no file: {error}"
    );
}
