//! What is written down, held against the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use chrono::Utc;
use sentinel_connector::{
    app::Function,
    config::{SETTINGS, Scope},
    core::{mapping::wanted::Teller, metrics::METRICS},
    io::clock::SystemClock,
    simulator::{Options, Simulator},
    source::{defender::hunting, endpoints},
};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The table of settings, as it stands between two marks of its page.
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
fn the_page_of_settings_lists_every_one_as_the_program_explains_it() {
    let page = file("docs/settings.md");
    let table = page.split("<!-- settings -->\n").nth(1).unwrap();
    let table = table.split("<!-- /settings -->").next().unwrap();
    assert_eq!(
        table,
        settings_table(),
        "the table of docs/settings.md should be:\n{}",
        settings_table()
    );
}

#[test]
fn the_table_of_defaults_says_of_every_stream_when_it_is_read_and_how_much_again() {
    let page = file("docs/defender.md");
    let head = "| stream | every | delay | lookback | sweep a day |\n";
    let table = page.split(head).nth(1).unwrap().lines().skip(1);
    let rows = table.map_while(|line| line.strip_prefix("| "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    for endpoint in endpoints() {
        let name = if endpoint.stream.starts_with("defender.hunting.") {
            "tables of hunting".to_owned()
        } else {
            format!("`{}`", endpoint.stream)
        };
        let row = rows.iter().find(|row| row[0].contains(&name));
        let row = row.unwrap_or_else(|| panic!("no defaults of {name}"));
        // Where there is no time, the cell says why.
        let told = |cell: &str| {
            let time = cell.split(' ').next().unwrap();
            humantime::parse_duration(time).unwrap_or_default()
        };
        let pace = endpoint.pace;
        assert_eq!(
            [told(row[1]), told(row[2]), told(row[3]), told(row[4])],
            [pace.every, pace.delay, pace.lookback, pace.sweep],
            "{name}"
        );
    }
}

#[test]
fn the_table_of_filters_says_of_every_stream_which_member_tells_what() {
    let page = file("docs/settings.md");
    let told = |teller: &Teller| match teller {
        Teller::Member(name) => format!("`{name}`"),
        Teller::Each(list, name) => format!("`{list}[].{name}`"),
    };
    let mut rows = BTreeMap::<String, Vec<String>>::new();
    for endpoint in endpoints() {
        let row = rows.entry(endpoint.stream.to_owned()).or_default();
        for (field, teller) in endpoint.tellers {
            let cell = format!("{} ({})", field.word(), told(teller));
            if !row.contains(&cell) {
                row.push(cell);
            }
        }
    }
    let rows = rows.into_iter().filter(|(_, told)| !told.is_empty());
    let rows: Vec<String> = rows
        .map(|(stream, told)| format!("| `{stream}` | {} |\n", told.join(", ")))
        .collect();
    let table = page.split("| stream | it tells |\n|---|---|\n").nth(1);
    assert_eq!(table.unwrap(), rows.concat());
}

#[test]
fn the_page_for_operators_lists_every_metric_as_the_program_explains_it() {
    let page = file("docs/operate.md");
    let (_, rest) = page.split_once("<!-- metrics -->\n").unwrap();
    let (listed, _) = rest.split_once("<!-- /metrics -->").unwrap();
    let mut table = "| metric | kind | unit | |\n|---|---|---|---|\n".to_owned();
    for metric in METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let row = format!(
            "| `{}` | {kind} | `{}` | {} |\n",
            metric.name, metric.unit, metric.help
        );
        table.push_str(&row);
    }
    assert_eq!(listed, table, "print it again:\n{table}");
}

#[test]
fn the_readme_names_every_function_and_command() {
    let readme = file("README.md");
    for function in Function::all() {
        let folder = function.folder();
        assert!(readme.contains(&format!("`{folder}`")), "{folder}");
    }
    for command in [
        "demo",
        "run",
        "check",
        "cursor",
        "outbox",
        "dead",
        "query",
        "schema",
        "simulate",
        "bench",
        "serve",
        "assets",
        "routes",
        "columns",
        "init",
        "completions",
        "connections",
        "metrics",
    ] {
        assert!(readme.contains(&format!("`{command}")), "{command}");
    }
}

#[test]
fn the_role_that_is_enough_for_a_stream_is_told_wherever_roles_are() {
    let page = file("docs/defender.md");
    let table = page.split("\n## Streams\n").nth(1).unwrap();
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
    let page = file("docs/defender.md");
    let section = page.split("\n## The 22 tables\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let hunted = hunting::tables().iter().map(|table| table.name);
    let told = hunted.filter(|name| section.contains(&format!("`{name}`")));
    assert_eq!(told.count(), 21);
    for name in ["SecurityAlert", "SecurityIncident"] {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    assert!(section.contains("pay for it twice"));
}

/// The pages: README.md, those beside it, and those under docs/.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [".", "docs", "docs/contracts"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if path.extension().is_some_and(|kind| kind == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().map(|one| if one == ' ' { '-' } else { one });
    kept.filter(|one| one.is_alphanumeric() || "-_".contains(*one))
        .collect()
}

/// The anchors of a page; lines of code are none.
fn anchors(page: &str) -> BTreeSet<String> {
    let outside = page.split("```").step_by(2);
    let lines = outside.flat_map(str::lines);
    let headings = lines.filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The links of a page to files of the repository, as they are written.
fn relative_links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ']).next()?;
        (!target.contains("://")).then_some(target)
    });
    targets.collect()
}

/// What is wrong with the links of a page.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for link in relative_links(text) {
        let (name, place) = link.split_once('#').unwrap_or((link, ""));
        let path = match name {
            "" => root.join(page),
            name => root.join(page.parent().unwrap()).join(name),
        };
        let there = if place.is_empty() {
            path.exists()
        } else {
            fs::read_to_string(path).is_ok_and(|target| anchors(&target).contains(place))
        };
        if !there {
            wrong.push(format!("{}: {link}", page.display()));
        }
    }
    wrong
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = file(page.to_str().unwrap());
        wrong.extend(broken(&page, &text));
    }
    assert_eq!(wrong, [""; 0]);
    let readme = Path::new("README.md");
    for bad in ["docs/absent.md", "docs/settings.md#absent", "#absent"] {
        assert_eq!(broken(readme, &format!("[a]({bad})")).len(), 1, "{bad}");
    }
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = file("README.md");
    assert!(readme.lines().count() <= 200, "{}", readme.lines().count());
    let led = relative_links(&readme);
    for page in pages() {
        let page = page.strip_prefix(".").unwrap_or(&page);
        let name = page.to_str().unwrap();
        let is_contract = name.starts_with("docs/contracts/") && !name.ends_with("README.md");
        assert!(
            name == "README.md" || is_contract || led.contains(&name),
            "{name}"
        );
    }
    let contracts = file("docs/contracts/README.md");
    for page in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contracts")).unwrap()
    {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || contracts.contains(&name), "{name}");
    }
}

#[test]
fn the_two_commands_of_a_newcomer_stand_in_the_readme() {
    let readme = file("README.md");
    for command in ["cargo run --release -- demo", "tests/run"] {
        assert!(
            readme.contains(&format!("```sh\n{command}\n```")),
            "{command}"
        );
    }
}

#[test]
fn every_path_of_the_repository_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rooms = [
        "src/",
        "tests/",
        "docs/",
        "sentinel/",
        "schemas/",
        "package/",
    ];
    let mut named = 0;
    for page in [
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/contracts/README.md",
    ] {
        let text = file(page);
        let outside: Vec<_> = text.split("```").step_by(2).collect();
        for path in outside
            .iter()
            .flat_map(|part| part.split('`').skip(1).step_by(2))
        {
            let path = path.split([' ', '#']).next().unwrap();
            if rooms.iter().any(|room| path.starts_with(room)) {
                assert!(root.join(path).exists(), "{page}: {path}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
}

/// Rust files under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn what_a_comment_cites_stands_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut cited = 0;
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        // A citation may be broken by the end of its line.
        let comments: Vec<_> = text
            .lines()
            .filter_map(|line| {
                Some(
                    line.trim_start()
                        .strip_prefix("//")?
                        .trim_start_matches(['/', '!']),
                )
            })
            .map(str::trim)
            .collect();
        let comments = comments.join(" ");
        for word in comments.split_whitespace() {
            let word = word.trim_matches(|one: char| !one.is_alphanumeric());
            if Path::new(word).extension().is_some_and(|kind| kind == "md") {
                assert!(root.join(word).is_file(), "{}: {word}", path.display());
            }
        }
        for citation in comments.split("`docs/").skip(1) {
            let (page, rest) = citation.split_once('`').unwrap();
            if let Some(section) = rest.strip_prefix(", *") {
                let section = section.split('*').next().unwrap();
                let page = file(&format!("docs/{page}"));
                assert!(
                    anchors(&page).contains(&anchor(section)),
                    "{}: {section}",
                    path.display()
                );
                cited += 1;
            }
        }
    }
    assert!(cited >= 5, "{cited}");
}

#[test]
fn the_glossary_has_at_most_forty_words() {
    let page = file("docs/architecture.md");
    let table = page.split("<!-- glossary -->").nth(1).unwrap();
    let table = table.split("<!-- /glossary -->").next().unwrap();
    let words = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let words: Vec<_> = words
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    assert!((30..=40).contains(&words.len()), "{}", words.len());
    for word in [
        "filter",
        "enrich",
        "dead letter",
        "deliver",
        "transition",
        "pool",
        "receipt",
    ] {
        assert!(words.contains(&word), "{word}");
    }
}

#[test]
fn the_picture_shows_the_end_of_the_demo() {
    let picture = file("docs/demo.svg");
    assert!(picture.contains("records pulled ="));
    for endpoint in endpoints() {
        // The demo reads what is on without being asked for.
        let hunted =
            endpoint.stream.starts_with("defender.hunting.") || endpoint.is_named("eset.devices");
        let shown = picture.contains(&format!(">{} ", endpoint.stream));
        assert!(
            hunted || shown,
            "{}: draw it again with docs/picture.py",
            endpoint.stream
        );
    }
}

#[test]
fn the_pictures_of_screens_show_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(root.join("docs/picture.py"))
        .arg("--check")
        .args(["--program", env!("CARGO_BIN_EXE_sentinel-connector")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
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
    let page = file("docs/stock-connector.md");
    let section = page.split("\n## ").next().unwrap();
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
fn a_stream_goes_to_the_data_lake_when_it_is_named() {
    let stream = "defender.hunting.DeviceEvents";
    let template = printed(&["routes", "arm", "--plan", "auxiliary", stream]);
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    let resources = template["resources"].as_array().unwrap().iter();
    let tables = resources.filter(|one| one["properties"]["schema"].is_object());
    let plans: Vec<_> = tables
        .map(|one| {
            (
                &one["properties"]["schema"]["name"],
                &one["properties"]["plan"],
            )
        })
        .collect();
    let expected = (&"DeviceEvents_CL".into(), &"Auxiliary".into());
    assert_eq!(plans, [expected]);
    assert!(
        template["outputs"]["ROUTES"]["value"]
            .as_str()
            .unwrap()
            .contains(stream)
    );
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
