//! Who may import whom: the table in `src/lib.rs`, held against the `use` lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each room may import beside itself and `error`.
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("core", &[]),
    ("io", &["core"]),
    ("embedded", &[]),
    ("logging", &[]),
    ("config", &["core", "logging"]),
    ("host", &["io"]),
    ("source", &["core", "io"]),
    ("sink", &["core", "io", "embedded"]),
    ("storage", &["core", "io", "embedded"]),
    ("simulator", &["core", "io"]),
    ("push", &["core", "io", "pipeline", "storage"]),
    ("pipeline", &["core", "io", "source", "sink", "storage"]),
    (
        "check",
        &["app", "config", "core", "io", "pipeline", "sink", "storage"],
    ),
    (
        "app",
        &[
            "config", "core", "embedded", "host", "io", "pipeline", "push", "secret", "sink",
            "source", "storage",
        ],
    ),
    ("status", &["app", "check", "config", "core", "storage"]),
    ("assets", &["app", "core", "io", "source", "storage"]),
    (
        "serve",
        &["app", "assets", "config", "host", "io", "status"],
    ),
    ("secret", &["core", "io"]),
];

/// Crates that only these rooms may name.
const CRATES: &[(&str, &[&str])] = &[
    ("reqwest", &["io"]),
    ("rusqlite", &["embedded", "sink", "storage"]),
    ("axum", &["host", "io", "simulator"]),
    ("governor", &["io"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("comfy_table", &["cli"]),
    ("rcgen", &["simulator"]),
];

/// What makes code impure; `core` has none of it.
const IMPURE: &[&str] = &[
    "tokio", "std::env", "std::fs", "std::net", "rand::", "Utc::now",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room that a file lies in: `src/io/http.rs` → `io`, `src/host.rs` → `host`.
fn room(file: &Path, src: &Path) -> String {
    let inner = file.strip_prefix(src).unwrap();
    let first = inner
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    let first = first.trim_end_matches(".rs").trim_end_matches("_tests");
    first.to_owned()
}

/// The code of a file, without comments and without its test module.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap()
        .to_owned();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The rooms that a piece of code names by `crate::`, also inside braces.
fn imported(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => drop(rooms.insert(name(rest))),
            Some(list) => rooms.extend(items(list).map(name)),
        }
    }
    rooms
}

/// The items of a `use` list, up to its closing brace.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut starts = vec![0];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts.push(at + 1),
            _ => {}
        }
    }
    starts
        .into_iter()
        .filter_map(|start| list.get(start..))
        .filter(|item| !item.trim_start().starts_with('}'))
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in files {
        let room = room(&file, &src);
        let name = file.file_name().unwrap().to_str().unwrap();
        if matches!(room.as_str(), "lib" | "main" | "cli") || name.ends_with("tests.rs") {
            continue;
        }
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let Some(allowed) = allowed.get(room.as_str()) else {
            panic!("`{room}` has no arrows: add it to the table here and in src/lib.rs");
        };
        let code = code(&file);
        for other in imported(&code) {
            if other != room && other != "error" && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{} imports {other}", file.display()));
            }
        }
        for (name, rooms) in CRATES {
            if code.contains(&format!("{name}::")) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{} uses {name}", file.display()));
            }
        }
        if room == "core" {
            for impure in IMPURE.iter().filter(|impure| code.contains(**impure)) {
                wrong.push(format!("{} uses {impure}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_use_lines_sees_every_form() {
    let rooms = |code: &str| imported(code).into_iter().collect::<Vec<_>>();
    assert_eq!(rooms("use crate::io::clock::Clock;"), ["io"]);
    assert_eq!(
        rooms("use crate::{\n    core::{a::B, c},\n    error::Result,\n    io::http,\n};"),
        ["core", "error", "io"]
    );
    assert_eq!(rooms("fn f(x: crate::sink::Sink) {}"), ["sink"]);
}
