//! Commands in a real terminal: what libraries say only there stands in nobody's pipe.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What a command prints on a pseudo-terminal, which `script` of util-linux opens for it.
fn on_a_terminal(folder: &Path, arguments: &str) -> String {
    on_a_terminal_of(80, folder, arguments)
}

/// On one of so many columns; `env` of the shell goes before the program.
fn on_a_terminal_of(columns: usize, folder: &Path, arguments: &str) -> String {
    let (settings, arguments) = arguments.split_once(" -- ").unwrap_or(("", arguments));
    let command = format!(
        "stty columns {columns} rows 50; {settings} '{}' {arguments}",
        env!("CARGO_BIN_EXE_sentinel-connector")
    );
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("`script` of util-linux is needed: apt install bsdutils");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn no_command_begins_with_a_complaint_of_a_library() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        "demo",
        "query 'SELECT count(*) FROM IntegrationTable_CL'",
        "run --once",
        "check",
        "cursor show",
        "outbox list",
        "dead list",
        "columns",
        "schema",
        "--help",
    ] {
        let printed = on_a_terminal(folder.path(), arguments);
        assert!(!printed.trim().is_empty(), "{arguments} prints nothing");
        let first = printed.lines().next().unwrap();
        for library in ["tracing", "ansi"] {
            assert!(!first.contains(library), "{arguments}: {first}");
        }
        assert!(!printed.contains("thread '"), "{arguments}: {printed}");
    }
}

/// The lines of a command that say something, without what moves and colours.
fn lines(printed: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut letters = printed.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                let _ = letters.find(char::is_ascii_alphabetic);
            }
            '\r' => plain.push('\n'),
            letter => plain.push(letter),
        }
    }
    let moves = |line: &&str| !line.starts_with(|one| ('\u{2800}'..='\u{28ff}').contains(&one));
    let lines = plain.lines().map(str::trim_end).filter(moves);
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[test]
fn no_line_is_broken_by_the_end_of_a_terminal_of_80_or_140_columns() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is asked, and the names are as long as they get.
    let wrong = "ESET_REGION=mars LOGS_INGESTION_ENDPONT=x DEFENDER_TENANT_ID=contoso.example -- ";
    for columns in [80, 140] {
        for arguments in [
            "--help",
            "check --help",
            "simulate --help",
            "check --offline --all",
            "simulate --list-faults",
            "schema --output table",
            "query 'SELECT 1 AS a, 2 AS b, 3 AS c, 4 AS d, 5 AS e, 6 AS f, 7 AS g, 8 AS h'",
        ] {
            let arguments = format!("{wrong}{arguments}");
            let printed = on_a_terminal_of(columns, folder.path(), &arguments);
            let lines = lines(&printed);
            assert!(!lines.is_empty(), "{arguments}");
            for line in lines {
                // Words that have no gap are not cut: they are copied.
                let fits = line.chars().count() <= columns || !line.trim().contains(' ');
                let error = line.starts_with("error");
                assert!(fits || error, "{columns}: {arguments}: {line}");
            }
        }
    }
}

#[test]
fn colours_and_lines_are_for_terminals_alone_and_no_color_takes_the_colours_away() {
    let folder = tempfile::tempdir().unwrap();
    let check = "check --offline";
    let coloured = |printed: &str| printed.contains("\u{1b}[3");
    let shown = on_a_terminal(folder.path(), &format!("ESET_REGION=mars -- {check}"));
    assert!(coloured(&shown), "{shown}");
    let plain = on_a_terminal(
        folder.path(),
        &format!("NO_COLOR=1 ESET_REGION=mars -- {check}"),
    );
    assert!(!coloured(&plain) && plain.contains("BAD"), "{plain}");
    let query = "query 'SELECT 7 AS seven'";
    let framed = on_a_terminal(folder.path(), query);
    assert!(framed.contains('│') && framed.contains("seven"), "{framed}");
    let piped = on_a_terminal(folder.path(), &format!("{query} | cat"));
    assert_eq!(lines(&piped), ["seven", "7"]);
    let piped = on_a_terminal(
        folder.path(),
        &format!("ESET_REGION=mars -- {check} 2>&1 | cat"),
    );
    assert!(
        !piped.contains('\u{1b}') && piped.contains("BAD"),
        "{piped}"
    );
}

#[test]
fn a_shell_and_man_are_told_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = ["check", "connections", "cursor", "outbox", "init", "demo"];
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for word in commands.iter().chain(&["output", "quiet", "estimate"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let bash = folder.path().join("completions.bash");
    std::fs::write(&bash, run(&["completions", "bash"])).unwrap();
    let completed = format!(
        "source '{}'; COMP_WORDS=(sentinel-connector che); COMP_CWORD=1; \
         _sentinel__connector sentinel-connector che sentinel-connector; echo \"${{COMPREPLY[*]}}\"",
        bash.display()
    );
    let output = Command::new("bash").args(["-c", &completed]).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(output.trim(), "check");

    let page = run(&["man"]);
    assert!(page.contains(".TH sentinel-connector 1"), "{page}");
    for command in commands {
        assert!(page.contains(command), "{command}");
    }
    run(&["man", "--into", "man1"]);
    for page in ["sentinel-connector.1", "sentinel-connector-cursor-import.1"] {
        assert!(folder.path().join("man1").join(page).exists(), "{page}");
    }
}
