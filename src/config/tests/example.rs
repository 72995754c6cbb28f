//! `local.settings.json.example`.

use super::*;

const EXAMPLE: &str = include_str!("../../../local.settings.json.example");

#[test]
fn the_example_explains_every_setting() {
    let example: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
    let expected: serde_json::Map<_, _> = SETTINGS
        .iter()
        .map(|setting| (setting.name.to_owned(), setting.explained().into()))
        .collect();
    assert_eq!(
        example["Settings"].as_object(),
        Some(&expected),
        "`Settings` of local.settings.json.example should be {}",
        serde_json::to_string_pretty(&expected).unwrap()
    );
}

#[test]
fn the_example_works_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local.settings.json");
    std::fs::write(&path, EXAMPLE).unwrap();
    let environment = Environment::default().with_local_settings(&path).unwrap();
    let known = ["AzureWebJobsStorage", "FUNCTIONS_WORKER_RUNTIME"];
    for name in environment.names() {
        let ours = SETTINGS.iter().any(|setting| setting.name == name);
        assert!(ours || known.contains(&name), "{name}");
    }
    assert!(environment.get("ESET_SCHEDULE").is_some());
    for mode in [Mode::Host, Mode::Local] {
        let settings = Settings::load(&environment, mode).unwrap();
        assert_eq!(warnings(&settings), Vec::<String>::new());
        assert_eq!(
            eset(&settings).base_url("iam"),
            "https://localhost:7443/eset/eu/iam"
        );
        assert!(settings.extra_ca.is_some());
    }
}
