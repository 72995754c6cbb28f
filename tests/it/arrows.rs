//! Who may import whom: the table in `src/lib.rs`, held against the `use` lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The rooms that each room may import, beside itself and `error`, as the table of `src/lib.rs` says;
/// `None` may import all.
fn arrows(src: &Path) -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = fs::read_to_string(src.join("lib.rs")).unwrap();
    let names = |cell: &str| -> BTreeSet<String> {
        let names = cell.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    };
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"));
    let arrows: BTreeMap<_, _> = rows
        .map(|row| {
            let (room, row) = row.split_once("`]").unwrap();
            let cell = row.split('|').nth(2).unwrap().trim();
            let allowed = match cell {
                "everything" => None,
                "nothing" => Some(BTreeSet::new()),
                _ => Some(names(cell)),
            };
            assert!(
                allowed
                    .as_ref()
                    .is_none_or(|some| some.is_empty() == (cell == "nothing"))
            );
            (room.to_owned(), allowed)
        })
        .collect();
    assert!(arrows.len() > 15, "the table of src/lib.rs: {arrows:?}");
    arrows
}

/// Crates that only these rooms may name.
const CRATES: &[(&str, &[&str])] = &[
    ("reqwest", &["io"]),
    ("rusqlite", &["embedded", "sink", "storage"]),
    ("axum", &["host", "io", "simulator"]),
    ("governor", &["io"]),
    ("clap", &["cli"]),
    ("maud", &["status"]),
    ("indicatif", &["cli"]),
    ("comfy_table", &["cli"]),
    ("textwrap", &["cli"]),
    ("terminal_size", &["cli"]),
    ("csv", &["cli"]),
    ("anstream", &["cli"]),
    ("anstyle", &["cli"]),
    ("dialoguer", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("rcgen", &["simulator"]),
    ("axum_server", &["simulator"]),
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
    let arrows = arrows(&src);
    let mut wrong = Vec::new();
    for file in files {
        let room = room(&file, &src);
        let name = file.file_name().unwrap().to_str().unwrap();
        if matches!(room.as_str(), "lib" | "main") || name.ends_with("tests.rs") {
            continue;
        }
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let Some(allowed) = arrows.get(room.as_str()) else {
            panic!("`{room}` has no arrows: add it to the table in src/lib.rs");
        };
        let code = code(&file);
        for other in imported(&code) {
            let may = allowed.as_ref().is_none_or(|rooms| rooms.contains(&other));
            if other != room && other != "error" && !may {
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

/// What a stream is like stands in its endpoint, and in no comparison of its name.
#[test]
fn no_behaviour_hangs_on_the_name_of_a_stream() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = Vec::new();
    let mut looked_at = 0;
    for file in &files {
        let room = room(file, &src);
        if matches!(&*room, "source" | "simulator") {
            continue;
        }
        looked_at += 1;
        let compares = |line: &&str| line.contains(".stream == ") || line.contains(".stream != ");
        // An endpoint's own answer to the question is the one place.
        let text = code(file).replace("self.stream == stream", "");
        found.extend(text.lines().filter(compares).map(str::to_owned));
    }
    assert!(looked_at > 100, "{looked_at}");
    assert_eq!(found, Vec::<String>::new());
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

/// The module of a file: `src/io/http.rs` → `io::http`.
fn module(file: &Path, src: &Path) -> String {
    let inner = file.strip_prefix(src).unwrap().with_extension("");
    let parts = inner.iter().map(|part| part.to_str().unwrap());
    parts.collect::<Vec<_>>().join("::")
}

/// The paths that a piece of code in `module` names, as they are called from the crate's root.
fn named_paths(code: &str, module: &str) -> Vec<String> {
    let parents: Vec<&str> = module.split("::").collect();
    let mut found = Vec::new();
    for (start, _) in code
        .match_indices("crate::")
        .chain(code.match_indices("super::"))
    {
        let before = code
            .get(..start)
            .and_then(|before| before.chars().next_back());
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut rest = code.get(start..).unwrap();
        let mut prefix: Vec<&str> = Vec::new();
        if let Some(inner) = rest.strip_prefix("crate::") {
            rest = inner;
        } else {
            prefix = parents.clone();
            while let Some(inner) = rest.strip_prefix("super::") {
                prefix.pop();
                rest = inner;
            }
        }
        leaves(rest, &prefix.join("::"), &mut found);
    }
    found
}

/// The paths of a `use` tree behind `prefix`.
fn leaves(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let tree = tree.trim_start();
    if let Some(list) = tree.strip_prefix('{') {
        for item in items(list) {
            leaves(item, prefix, found);
        }
        return;
    }
    let end = tree.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, rest) = tree.split_at(end.unwrap_or(tree.len()));
    let path = match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}::{name}"),
    };
    match rest.strip_prefix("::") {
        Some(rest) => leaves(rest, &path, found),
        None => found.push(path),
    }
}

/// Which files each file imports, but for those that it lies in or that lie in it.
fn file_arrows(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(src, &mut files);
    files.retain(|file| {
        let is_tests = |part: &str| part == "tests" || part.ends_with("tests.rs");
        !file.iter().any(|part| is_tests(part.to_str().unwrap()))
    });
    let modules: BTreeSet<String> = files.iter().map(|file| module(file, src)).collect();
    let lies_in = |one: &str, other: &str| one.starts_with(&format!("{other}::"));
    files
        .iter()
        .map(|file| {
            let name = module(file, src);
            let paths = named_paths(&code(file), &name);
            let owners = paths.into_iter().filter_map(|mut path| {
                while !modules.contains(&path) {
                    path.truncate(path.rfind("::")?);
                }
                Some(path)
            });
            let others = owners
                .filter(|other| *other != name && !lies_in(other, &name) && !lies_in(&name, other));
            let others = others.collect();
            (name, others)
        })
        .collect()
}

/// Whatever can be reached from a file by its arrows.
fn reached<'a>(from: &'a str, arrows: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for other in arrows.get(next).into_iter().flatten() {
            if reached.insert(other.as_str()) {
                open.push(other);
            }
        }
    }
    reached
}

#[test]
fn no_two_files_import_each_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let arrows = file_arrows(&src);
    let count = arrows.values().map(BTreeSet::len).sum::<usize>();
    assert!(count > 500, "only {count} arrows were read");
    let circles: Vec<&String> = arrows
        .keys()
        .filter(|file| reached(file, &arrows).contains(file.as_str()))
        .collect();
    assert!(circles.is_empty(), "in circles: {circles:#?}");
}

#[test]
fn the_reader_of_paths_sees_every_form() {
    let paths = |code: &str| named_paths(code, "a::b");
    assert_eq!(paths("use super::{c::D, e};"), ["a::c::D", "a::e"]);
    assert_eq!(
        paths("use crate::{f::{self, g::H}, i};"),
        ["f::self", "f::g::H", "i"]
    );
    assert_eq!(paths("fn f(_: super::super::x::Y) {}"), ["x::Y"]);
    let arrows = |pairs: &[(&str, &str)]| -> BTreeMap<String, BTreeSet<String>> {
        let pairs = pairs.iter();
        pairs
            .map(|(from, to)| ((*from).to_owned(), [(*to).to_owned()].into()))
            .collect()
    };
    assert!(reached("a", &arrows(&[("a", "b"), ("b", "a")])).contains("a"));
    assert!(!reached("a", &arrows(&[("a", "b"), ("b", "c")])).contains("a"));
}

/// The crates that a build with these features is linked from.
fn linked_from(features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges=normal"])
        .args(["--prefix=none", "--format={lib}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn what_is_deployed_makes_no_certificates_and_serves_no_tls() {
    let simulated = ["rcgen", "axum_server"];
    let all = linked_from(&[]);
    let deployed = linked_from(&["--no-default-features"]);
    assert!(deployed.contains("rustls"), "{deployed:?}");
    for name in simulated {
        assert!(all.contains(name), "{name}: {all:?}");
        assert!(!deployed.contains(name), "{name}");
    }
}

/// The most type names that have more than one definition outside the simulator: each new one makes
/// a reader ask which is meant.
const MEANT_TWICE: usize = 34;

#[test]
fn a_type_name_has_one_meaning_wherever_it_can() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        if room(&file, &src) == "simulator" {
            continue;
        }
        for line in code(&file).lines() {
            let line = line.trim_start();
            let line = match line.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |it| it.1),
                Some(rest) => rest.trim_start(),
                None => line,
            };
            let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else {
                continue;
            };
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = rest.get(..end.unwrap_or(rest.len())).unwrap();
            *names.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(names.len() > 300, "only {} names were read", names.len());
    let twice: Vec<&String> = names
        .iter()
        .filter(|name| *name.1 > 1)
        .map(|name| name.0)
        .collect();
    assert!(
        twice.len() <= MEANT_TWICE,
        "{} names: {twice:#?}",
        twice.len()
    );
}
