//! Commands in a real terminal: what libraries say only there stands in nobody's pipe.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What a command prints on a pseudo-terminal, which `script` of util-linux opens for it.
fn on_a_terminal(folder: &Path, arguments: &str) -> String {
    let command = format!("'{}' {arguments}", env!("CARGO_BIN_EXE_sentinel-connector"));
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
