//! What is written down, held against the program.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command, sync::Arc};

use chrono::Utc;
use sentinel_connector::{
    app::{FUNCTIONS, endpoints},
    config::{SETTINGS, Scope},
    io::clock::SystemClock,
    simulator::{Options, Simulator},
    source::hunting,
};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The table of settings, as it stands between two marks of the README.
fn settings_table() -> String {
    let mut table = String::from("| setting | meaning |\n|---|---|\n");
    for setting in SETTINGS
        .iter()
        .filter(|setting| setting.scope != Scope::Platform)
    {
        let meaning = setting.explained().replace('|', "\\|");
        writeln!(table, "| `{}` | {meaning} |", setting.name).unwrap();
    }
    table
}

#[test]
fn the_readme_lists_every_setting_as_the_program_explains_it() {
    let readme = file("README.md");
    let table = readme.split("<!-- settings -->\n").nth(1).unwrap();
    let table = table.split("<!-- /settings -->").next().unwrap();
    assert_eq!(
        table,
        settings_table(),
        "the table of README.md should be:\n{}",
        settings_table()
    );
}

#[test]
fn the_readme_names_every_function_and_command() {
    let readme = file("README.md");
    for function in FUNCTIONS.iter().chain(&["Assets", "Status"]) {
        assert!(readme.contains(&format!("`{function}`")), "{function}");
    }
    for command in [
        "demo", "run", "check", "cursor", "outbox", "dead", "query", "schema", "simulate", "bench",
        "serve", "assets", "routes", "columns",
    ] {
        assert!(readme.contains(&format!("`{command}")), "{command}");
    }
}

#[test]
fn the_role_that_is_enough_for_a_stream_is_told_wherever_roles_are() {
    let readme = file("README.md");
    let table = readme.split("## Microsoft Defender").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let of_defender = endpoints().filter(|one| one.stream.starts_with("defender."));
    for endpoint in of_defender {
        let role = format!("`{}`", endpoint.roles[0]);
        assert!(table.contains(&role), "{}: {role}", endpoint.stream);
        assert!(endpoint.fix.contains(&role), "{}: {role}", endpoint.stream);
    }
}

#[test]
fn the_tables_of_the_native_connector_are_all_told_of_and_what_they_cost() {
    let readme = file("README.md");
    let section = readme.split("**The 22 tables**").nth(1).unwrap();
    let section = section.split("\n\n**").next().unwrap();
    let hunted = hunting::tables().iter().map(|table| table.name);
    let told = hunted.filter(|name| section.contains(&format!("`{name}`")));
    assert_eq!(told.count(), 21);
    for name in ["SecurityAlert", "SecurityIncident"] {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    assert!(section.contains("pay for it twice"));
}

#[test]
fn who_calls_a_function_by_http_needs_its_key() {
    for function in ["Assets", "Status"] {
        let path = format!("{function}/function.json");
        let folder: serde_json::Value = serde_json::from_str(&file(&path)).unwrap();
        let trigger = &folder["bindings"][0];
        assert_eq!(trigger["type"], "httpTrigger", "{function}");
        assert_eq!(trigger["authLevel"], "function", "{function}");
    }
}

/// The settings that `function.json` names, such as `%ESET_SCHEDULE%`: without one of them the host
/// does not index its function.
fn named_by_functions() -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for folder in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let function = folder.unwrap().path().join("function.json");
        let Ok(text) = fs::read_to_string(function) else {
            continue;
        };
        // Every second part lies between two of the signs.
        named.extend(text.split('%').skip(1).step_by(2).map(str::to_owned));
    }
    named
}

#[test]
fn whoever_takes_over_or_begins_is_told_every_setting_that_a_function_names() {
    let named = named_by_functions();
    assert!(named.contains("PUSH_SCHEDULE"), "{named:?}");
    let readme = file("README.md");
    let section = readme.split("## From the stock connector").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let changes: String = rows.filter_map(|row| row.split('|').nth(1)).collect();
    let example: serde_json::Value =
        serde_json::from_str(&file("local.settings.json.example")).unwrap();
    for name in named {
        assert!(changes.contains(&format!("`{name}`")), "{name}: {changes}");
        assert!(example["Values"][&name].is_string(), "{name}");
    }
}

/// What the binary prints, without settings.
fn printed(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .args(arguments)
        .env_clear()
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_of_columns_is_current() {
    let page = printed(&["columns"]);
    assert!(
        file("docs/columns.md") == page,
        "docs/columns.md is not what `sentinel-connector columns` prints: print it again"
    );
}

#[test]
fn every_table_of_hunting_can_be_deployed() {
    let template = printed(&["routes", "arm", "--all-hunting"]);
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    let count = |kind: &str| {
        let resources = template["resources"].as_array().unwrap().iter();
        resources.filter(|one| one["type"] == kind).count()
    };
    assert_eq!(count("Microsoft.OperationalInsights/workspaces/tables"), 21);
    assert_eq!(count("Microsoft.Insights/dataCollectionRules"), 3);
}

#[test]
fn the_example_settings_are_those_that_simulate_prints() {
    let example: serde_json::Value =
        serde_json::from_str(&file("local.settings.json.example")).unwrap();
    #[allow(clippy::disallowed_methods, reason = "any time will do")]
    let simulator = Simulator::new(Options::new(1, Utc::now()), Arc::new(SystemClock));
    for (name, value) in simulator.settings("https://localhost:7443") {
        if name.starts_with("ESET_") {
            assert_eq!(example["Values"][&name], value.as_str(), "{name}");
        }
    }
}
