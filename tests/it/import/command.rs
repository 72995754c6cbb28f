//! `cursor import` as people run it.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use sentinel_connector::{source::eset, storage::azure::AzureStorage};

use super::write_times;
use crate::azurite::{Azurite, parsed, signed_in, wire};

fn command(account: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentinel-connector"))
        .args(["cursor"])
        .args(arguments)
        .env_clear()
        .env("WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", account)
        .env("STORAGE", "embedded")
        .env("SINK", "embedded")
        .env("CONNECTOR_DATA", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_it_found_and_replaces_a_position_only_by_force() {
    let azurite = Azurite::shared();
    let (account, key) = azurite.unused();
    let text = azurite.connection_string(&account, &key);
    let storage = AzureStorage::new(signed_in(parsed(&text)), wire());
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| command(&text, folder.path(), arguments);

    let nothing = run(&["import"]);
    assert!(!nothing.status.success());
    assert!(
        said(&nothing).contains("no table of the stock connector"),
        "{}",
        said(&nothing)
    );

    write_times(&storage, "2026-03-01T22:30:00Z".parse().unwrap()).await;
    let dry = run(&["import", "--dry-run"]);
    assert!(dry.status.success(), "{}", said(&dry));
    for part in [
        "eset.detections\n",
        "`LastDetectionTimeEI` (stock connector up to 3.2",
        "goes on from 2026-02-26 22:30:00 UTC",
        "at most ",
        "from its first landing on",
        "nothing was changed",
    ] {
        assert!(said(&dry).contains(part), "{part}: {}", said(&dry));
    }
    assert!(said(&run(&["show"])).contains("no run has been saved yet"));

    let done = run(&["import"]);
    assert!(done.status.success(), "{}", said(&done));
    let shown = said(&run(&["show"]));
    for stream in [&eset::DETECTIONS, &eset::CLOUD_OFFICE, &eset::INCIDENTS] {
        assert!(shown.contains(stream.stream), "{shown}");
    }
    assert!(shown.contains("2026-02-26 22:30:00 UTC"), "{shown}");

    let again = run(&["import", "--lookback", "1h"]);
    assert!(!again.status.success());
    assert!(
        said(&again).contains("`--force` replaces it"),
        "{}",
        said(&again)
    );
    assert_eq!(said(&run(&["show"])).lines().count(), shown.lines().count());
    let forced = run(&["import", "--lookback", "1h", "--force"]);
    assert!(forced.status.success(), "{}", said(&forced));
    let shown = said(&run(&["show"]));
    assert!(shown.contains("2026-03-01 21:30:00 UTC"), "{shown}");
    let one = run(&[
        "import",
        "--lookback",
        "1h",
        "--lookback",
        "eset.incidents=10d",
        "--dry-run",
        "--force",
    ]);
    for part in ["2026-03-01 21:30:00 UTC", "2026-02-19 22:30:00 UTC"] {
        assert!(said(&one).contains(part), "{part}: {}", said(&one));
    }
    let unknown = run(&["import", "--lookback", "eset.incident=1h"]);
    assert!(
        said(&unknown).contains("there is no stream"),
        "{}",
        said(&unknown)
    );

    let strange = run(&["import", "--from", "NOT_SET"]);
    assert!(
        said(&strange).contains("`NOT_SET` is not set"),
        "{}",
        said(&strange)
    );
    let wrong = command("nonsense", folder.path(), &["import"]);
    let wrong = said(&wrong);
    assert!(
        wrong.contains("`WEBSITE_CONTENTAZUREFILECONNECTIONSTRING` is no"),
        "{wrong}"
    );
    for output in [nothing, dry, done, again, forced] {
        assert!(!said(&output).contains(&key), "a secret was printed");
    }
}
