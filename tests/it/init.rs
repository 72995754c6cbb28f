//! `init` as somebody at a terminal uses it, and as a script does, against the simulated services.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::tenant::Tenant;

const FILE: &str = "local.settings.json";

/// A secret that nobody may print.
const WRONG: &str = "canary-of-a-wrong-password";

/// Typed alone, without a return behind it.
const CTRL_C: &str = "\u{3}";

/// The settings that say where the simulated services are; the rest is asked for.
async fn tenant() -> Tenant {
    let mut tenant = Tenant::new(|_| {}).await;
    let places = ["ESET_URL_TEMPLATE", "EXTRA_CA_FILE", "LOG_LEVEL"];
    tenant
        .settings
        .retain(|name, _| places.contains(&name.as_str()));
    tenant.set("LOG_LEVEL", "error");
    tenant
}

fn written(tenant: &Tenant) -> Value {
    let text = fs::read_to_string(tenant.folder.path().join(FILE)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The program on a pseudo-terminal, with what is typed once a question stands there.
fn typed(tenant: &Tenant, arguments: &str, answers: &[(&str, &str)]) -> (bool, String) {
    let program = env!("CARGO_BIN_EXE_sentinel-connector");
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        // The shell outlives a Ctrl-C, as an interactive one does.
        .arg(format!("trap : INT; '{program}' init {arguments}"))
        .arg("/dev/null")
        .env_clear()
        .envs(&tenant.settings)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(tenant.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux is needed: apt install bsdutils");
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let (mut printed, mut seen) = (Vec::new(), 0);
    let mut answers = answers.iter();
    let mut next = answers.next();
    let mut some = [0; 4096];
    loop {
        if let Some((question, answer)) = next {
            let fresh = String::from_utf8_lossy(&printed[seen..]).into_owned();
            if fresh.contains(question) {
                seen = printed.len();
                keys.write_all(answer.as_bytes()).unwrap();
                if *answer != CTRL_C {
                    keys.write_all(b"\r").unwrap();
                }
                keys.flush().unwrap();
                next = answers.next();
                continue;
            }
        }
        match screen.read(&mut some).unwrap() {
            0 => break,
            read => printed.extend_from_slice(&some[..read]),
        }
    }
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(next.is_none(), "never asked: {next:?}\n{printed}");
    (script.wait().unwrap().success(), printed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_at_a_terminal_is_asked_each_answer_is_tried_and_no_secret_is_shown() {
    let tenant = tenant().await;
    let options = tenant.simulator.options();
    let (login, password) = (options.login.clone(), options.password.clone());
    let (well, printed) = typed(
        &tenant,
        "",
        &[
            ("an ESET tenant", "y"),
            ("Microsoft Defender", "n"),
            ("Data centre", "mars"),
            // What can't be is said at once, and asked again.
            ("it must be", "eu"),
            ("Login", &login),
            ("password", WRONG),
            ("again?", "y"),
            ("Data centre", ""),
            ("Login", ""),
            ("password", &password),
            ("Where rows go", ""),
        ],
    );
    assert!(well, "{printed}");
    tenant.assert_no_secret(&printed);
    assert!(!printed.contains(WRONG), "{printed}");
    assert!(
        printed.contains("BAD") && printed.contains("may be read"),
        "{printed}"
    );
    let file = written(&tenant);
    let values = &file["Values"];
    assert_eq!(values["ESET_REGION"], "eu");
    assert_eq!(values["ESET_LOGIN"], login);
    assert_eq!(values["ESET_PASSWORD"], password);
    assert_eq!(values["SINK"], "embedded");
    // What it was tried with is there as well, or it would not run where the environment is another.
    for (name, value) in &tenant.settings {
        assert_eq!(values[name], *value, "{name}");
    }
    let path = tenant.folder.path().join(FILE);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");

    // What was written runs.
    let output = tenant.command(&["run", "EsetTimer"]).env_clear().output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");

    // The file stays unless somebody says otherwise.
    let before = fs::read(&path).unwrap();
    let (well, printed) = typed(&tenant, "", &[("Replace it?", "n")]);
    assert!(!well && printed.contains("--force"), "{printed}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_shows_what_is_typed_again_when_somebody_ends_it_at_a_secret() {
    let tenant = tenant().await;
    let (_, printed) = typed(
        &tenant,
        "--region eu --login somebody@example.com; stty -a",
        &[("password", CTRL_C)],
    );
    assert!(printed.contains("nothing was written"), "{printed}");
    let modes = printed.split_whitespace();
    let echo = modes.filter(|word| word.trim_start_matches('-') == "echo");
    assert_eq!(echo.collect::<Vec<_>>(), ["echo"], "{printed}");
    assert!(!tenant.folder.path().join(FILE).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_gives_flags_and_a_secret_in_the_environment_and_nothing_wrong_is_written() {
    let tenant = tenant().await;
    let options = tenant.simulator.options();
    let (login, password) = (options.login.clone(), options.password.clone());
    let init = |secret: &str, more: &[&str]| {
        let arguments = [&["init", "--region", "eu", "--login", &login], more].concat();
        let mut command = tenant.command(&arguments);
        if !secret.is_empty() {
            command.env("ESET_PASSWORD", secret);
        }
        let output = command.output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        tenant.assert_no_secret(&printed);
        assert!(!printed.contains(WRONG), "{printed}");
        (output.status.code(), printed)
    };
    let path = tenant.folder.path().join(FILE);
    for (secret, more, words) in [
        ("", &[] as &[&str], "the variable ESET_PASSWORD gives it"),
        (WRONG, &[], "nothing was written"),
        (&password, &["--sink", "nowhere"], "`SINK` is `nowhere`"),
        (
            &password,
            &["--sink", "logs-ingestion"],
            "--endpoint gives it",
        ),
    ] {
        let (code, printed) = init(secret, more);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(words), "{words}: {printed}");
        assert!(!path.exists(), "{words}");
    }
    let (code, printed) = init(&password, &[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("may be read"), "{printed}");
    assert_eq!(written(&tenant)["Values"]["ESET_PASSWORD"], password);
    let (code, printed) = init(&password, &["--offline"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("--force"), "{printed}");
    let (code, printed) = init(&password, &["--offline", "--force", "--quiet"]);
    assert_eq!((code, printed.as_str()), (Some(0), ""));
}
