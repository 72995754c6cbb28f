use secrecy::ExposeSecret;

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::*;
use crate::logging::Format;

mod connections;
mod defender;
mod example;

const CANARY: &str = "canary-7f3a";

fn load(mode: Mode, settings: &[(&str, &str)]) -> Result<Settings, Problems> {
    Settings::load(&settings.iter().copied().collect(), mode)
}

fn local(settings: &[(&str, &str)]) -> Settings {
    load(Mode::Local, settings).unwrap()
}

/// The problems, one text each.
fn problems(mode: Mode, settings: &[(&str, &str)]) -> Vec<String> {
    let problems = load(mode, settings).unwrap_err();
    problems.problems.iter().map(ToString::to_string).collect()
}

fn warnings(settings: &Settings) -> Vec<String> {
    settings.warnings.iter().map(ToString::to_string).collect()
}

/// The words of a setting in the one connection.
fn words<'s>(settings: &'s Settings, setting: &str) -> Vec<&'s str> {
    settings.connections[0].choices.words(setting).collect()
}

fn eset(settings: &Settings) -> &EsetSettings {
    let mut found = settings
        .connections
        .iter()
        .filter_map(|connection| match &connection.source {
            Source::Eset(eset) => Some((&connection.name, eset)),
            Source::Defender(_) => None,
        });
    let (Some((name, eset)), None) = (found.next(), found.next()) else {
        panic!("one connection to ESET: {:?}", settings.connections);
    };
    assert_eq!(name, DEFAULT_CONNECTION);
    eset
}

fn given(source: &SecretSource) -> &str {
    match source {
        SecretSource::Given(secret) => secret.expose_secret(),
        SecretSource::Vault { name, .. } => panic!("in the vault as {name}"),
    }
}

const ESET: [(&str, &str); 3] = [
    ("ESET_REGION", "eu"),
    ("ESET_LOGIN", "api@example.com"),
    ("ESET_PASSWORD", CANARY),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut settings = ESET.to_vec();
    settings.extend_from_slice(more);
    settings
}

#[test]
fn nothing_set_is_no_connection_and_embedded_parts() {
    let settings = local(&[]);
    assert!(settings.connections.is_empty());
    assert_eq!(settings.sink, SinkSettings::Embedded);
    assert!(matches!(settings.storage, StorageSettings::Embedded));
    assert_eq!(settings.data, PathBuf::from("./connector-data"));
    assert_eq!(settings.extra_ca, None);
    assert_eq!(settings.run.budget, Duration::from_mins(4));
    assert_eq!(settings.run.time_generated, TimeGenerated::Ingestion);
    assert_eq!(
        settings.log,
        LogSettings {
            level: LevelFilter::WARN,
            format: Format::Text
        }
    );
    assert_eq!(warnings(&settings), Vec::<String>::new());
}

#[test]
fn three_settings_make_a_connection() {
    let settings = local(&ESET);
    let eset = eset(&settings);
    assert_eq!(eset.region, Region::Eu);
    assert_eq!(eset.login, "api@example.com");
    assert_eq!(given(&eset.password), CANARY);
    assert_eq!(words(&settings, "ESET_PRODUCTS"), ["protect"]);
    assert_eq!(eset.max_calls_per_second.get(), 9);
    assert_eq!(words(&settings, "ESET_ENRICH"), ["details", "hosts"]);
    assert_eq!(
        eset.base_url("incident-management"),
        "https://eu.incident-management.eset.systems"
    );
}

#[test]
fn every_setting_of_eset_is_read() {
    let settings = local(&with(&[
        ("ESET_PRODUCTS", "protect, Inspect,cloud-office,"),
        (
            "ESET_URL_TEMPLATE",
            "https://localhost:7443/eset/{region}/{domain}/",
        ),
        ("ESET_MAX_CALLS_PER_SECOND", "2"),
        ("ESET_ENRICH", "hosts"),
    ]));
    let eset = eset(&settings);
    assert_eq!(
        words(&settings, "ESET_PRODUCTS"),
        ["cloud-office", "inspect", "protect"]
    );
    assert_eq!(eset.base_url("iam"), "https://localhost:7443/eset/eu/iam");
    assert_eq!(eset.max_calls_per_second.get(), 2);
    assert_eq!(words(&settings, "ESET_ENRICH"), ["hosts"]);
}

#[test]
fn the_stock_names_are_understood() {
    let settings = load(
        Mode::Host,
        &[
            ("USERNAME_INTEGRATION", "api@example.com"),
            ("PASSWORD_INTEGRATION", CANARY),
            ("INSTANCE_REGION", "us"),
            ("EP_INSTANCE", "no"),
            ("EI_INSTANCE", "yes"),
            ("ECOS_INSTANCE", "yes"),
            ("ENDPOINT_URI", "https://a.ingest.monitor.azure.com"),
            ("DCR_IMMUTABLEID", "dcr-0123456789abcdef"),
            ("STREAM_NAME", "Custom-A_CL"),
            ("STREAM_NAME_INCIDENTS", "Custom-B_CL"),
            ("STORAGE", "embedded"),
        ],
    )
    .unwrap();
    let eset = eset(&settings);
    assert_eq!(
        (eset.region, eset.login.as_str()),
        (Region::Us, "api@example.com")
    );
    assert_eq!(given(&eset.password), CANARY);
    assert_eq!(
        words(&settings, "ESET_PRODUCTS"),
        ["cloud-office", "inspect"]
    );
    assert_eq!(
        settings.sink,
        SinkSettings::LogsIngestion {
            endpoint: "https://a.ingest.monitor.azure.com".to_owned(),
            scope: "https://monitor.azure.com//.default".to_owned(),
            dcr_immutable_id: "dcr-0123456789abcdef".to_owned(),
            stream: "Custom-A_CL".to_owned(),
            stream_incidents: "Custom-B_CL".to_owned(),
        }
    );
    assert_eq!(warnings(&settings), Vec::<String>::new());
}

#[test]
fn our_names_win_over_the_stock_ones() {
    let settings = local(&with(&[
        ("USERNAME_INTEGRATION", "old@example.com"),
        ("EI_INSTANCE", "yes"),
        ("ESET_PRODUCTS", "protect"),
    ]));
    assert_eq!(eset(&settings).login, "api@example.com");
    assert_eq!(words(&settings, "ESET_PRODUCTS"), ["protect"]);
}

#[test]
fn no_product_at_all_is_a_problem() {
    let found = problems(Mode::Local, &with(&[("EP_INSTANCE", "no")]));
    assert_eq!(
        found,
        ["`ESET_PRODUCTS` names no product: `protect`, `inspect`, `cloud-office`"]
    );
}

#[test]
fn japan_has_no_cloud_office() {
    let japan = |products| {
        load(
            Mode::Local,
            &[
                ("ESET_REGION", "jpn"),
                ("ESET_LOGIN", "api@example.com"),
                ("ESET_PASSWORD", CANARY),
                ("ESET_PRODUCTS", products),
            ],
        )
    };
    let settings = japan("protect,cloud-office").unwrap();
    assert_eq!(words(&settings, "ESET_PRODUCTS"), ["protect"]);
    assert!(warnings(&settings)[0].contains("not offer in the region `jpn`"));
    assert!(japan("cloud-office").is_err());
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(
        Mode::Host,
        &[
            ("ESET_REGION", "jp"),
            ("ESET_PASSWORD", "<your password>"),
            ("ESET_PRODUCTS", "protct"),
            ("ESET_URL_TEMPLATE", "http://example.com/{domain}"),
            ("ESET_MAX_CALLS_PER_SECOND", "0"),
            ("ESET_ENRICH", "some"),
            ("ESET_DETECTIONS_EVERY", "5"),
            ("ESET_DETECTIONS_STEP", "0s"),
            ("INITIAL_HISTORY", "a day"),
            ("RUN_BUDGET_SECONDS", "600"),
            ("TIME_GENERATED", "now"),
            ("SINK", "logs-ingestion"),
            ("DCR_IMMUTABLE_ID", "integrationDCR"),
            ("DCR_STREAM", "IntegrationTable_CL"),
            ("STORAGE", "azure"),
            ("LOG_LEVEL", "loud"),
            ("LOG_FORMAT", "xml"),
        ],
    );
    for begins in [
        "`ESET_REGION` is `jp`; it must be `eu`, `us`, `jpn`, `ca`, `de`",
        "`ESET_LOGIN` is not set: login of the ESET API user",
        "`ESET_PASSWORD` still holds the placeholder",
        "`ESET_PRODUCTS` is `protct`; it must be `protect`, `inspect`, `cloud-office`; did you mean `protect`?",
        "`ESET_URL_TEMPLATE` must begin with `https://`",
        "`ESET_MAX_CALLS_PER_SECOND` is `0`; it must be a whole number from 1",
        "`ESET_ENRICH` is `some`",
        "`ESET_DETECTIONS_EVERY` is `5`; it must be a duration",
        "`ESET_DETECTIONS_STEP` must not be zero",
        "`INITIAL_HISTORY` is `a day`",
        "`RUN_BUDGET_SECONDS` is `600`; it must be a whole number from 5 to 540",
        "`TIME_GENERATED` is `now`",
        "`LOGS_INGESTION_ENDPOINT` is not set",
        "`DCR_IMMUTABLE_ID` must be the rule's immutable id",
        "`DCR_STREAM` is `IntegrationTable_CL`",
        "`AzureWebJobsStorage__accountName` is not set: name of the storage account",
        "`LOG_LEVEL` is `loud`",
        "`LOG_FORMAT` is `xml`",
    ] {
        let hits = found
            .iter()
            .filter(|found| found.starts_with(begins))
            .count();
        assert_eq!(hits, 1, "{begins}: {found:#?}");
    }
    assert_eq!(found.len(), 18, "{found:#?}");
}

#[test]
fn a_key_vault_reference_that_was_not_resolved_is_a_problem() {
    let found = problems(
        Mode::Local,
        &[
            ("ESET_REGION", "eu"),
            (
                "ESET_LOGIN",
                "@Microsoft.KeyVault(SecretUri=https://v/secrets/login)",
            ),
            (
                "PASSWORD_INTEGRATION",
                "@Microsoft.KeyVault(VaultName=v;SecretName=canary-7f3a)",
            ),
        ],
    );
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with("`ESET_LOGIN` is a Key Vault reference that the platform did not")
    );
    assert!(found[1].starts_with("`PASSWORD_INTEGRATION` is a Key Vault reference"));
    assert!(!found[1].contains(CANARY));
}

#[test]
fn under_the_host_and_in_azure_nothing_is_kept_in_a_file_by_accident() {
    for (mode, extra) in [
        (Mode::Host, ("NOTHING", "")),
        (Mode::Host, ("WEBSITE_INSTANCE_ID", "abc")),
        (Mode::Local, ("WEBSITE_SITE_NAME", "connector")),
    ] {
        let found = problems(mode, &with(&[extra]));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("`SINK` is not set"), "{found:#?}");
        assert!(found[1].starts_with("`STORAGE` is not set"), "{found:#?}");
    }
    let chosen = [("SINK", "embedded"), ("STORAGE", "embedded")];
    let under_host = load(Mode::Host, &with(&chosen)).unwrap();
    assert_eq!(warnings(&under_host), Vec::<String>::new());
    assert_eq!(under_host.log.format, Format::Json);

    let mut in_azure = with(&chosen);
    in_azure.push(("WEBSITE_INSTANCE_ID", "abc"));
    let in_azure = load(Mode::Host, &in_azure).unwrap();
    assert_eq!(in_azure.warnings.len(), 2);
    assert!(warnings(&in_azure)[0].contains("lost with the instance"));
}

#[test]
fn on_a_command_line_the_sink_is_embedded_until_it_is_named() {
    let azure = [
        ("LOGS_INGESTION_ENDPOINT", "https://a.example.com"),
        ("DCR_IMMUTABLE_ID", "dcr-1"),
    ];
    assert_eq!(local(&azure).sink, SinkSettings::Embedded);
    let mut named = azure.to_vec();
    named.push(("SINK", "logs-ingestion"));
    assert!(matches!(
        local(&named).sink,
        SinkSettings::LogsIngestion { .. }
    ));
}

#[test]
fn whoever_has_the_settings_of_an_app_on_a_laptop_is_told_which_storage_is_meant() {
    let account = ("AzureWebJobsStorage__accountName", "contosoconnector");
    let settings = local(&with(&[account]));
    assert!(matches!(settings.storage, StorageSettings::Embedded));
    let said = warnings(&settings).join("; ");
    assert!(said.contains("STORAGE=azure"), "{said}");
    for place in ["embedded", "azure"] {
        let settings = local(&with(&[account, ("STORAGE", place)]));
        assert_eq!(warnings(&settings), [""; 0], "{place}");
    }
}

#[test]
fn a_misspelt_name_is_warned_of() {
    let settings = local(&with(&[("ESET_PRODUCT", "inspect"), ("HOME", "/root")]));
    assert_eq!(
        warnings(&settings),
        ["`ESET_PRODUCT` is unknown; did you mean `ESET_PRODUCTS`?"]
    );
    // The misspelling of what is missing comes with the problem.
    let failed = load(
        Mode::Local,
        &[
            ("ESET_LOGIN", "a"),
            ("ESET_REGION", "eu"),
            ("ESET_PASSWRD", CANARY),
        ],
    );
    let failed = failed.unwrap_err();
    assert!(failed.to_string().starts_with("`ESET_PASSWORD` is not set"));
    assert_eq!(failed.warnings[0].setting, "ESET_PASSWRD");
}

#[test]
fn white_space_around_a_secret_is_kept_and_warned_of() {
    let settings = local(&[
        ("ESET_REGION", " eu "),
        ("ESET_LOGIN", "a@example.com\n"),
        ("ESET_PASSWORD", "canary-7f3a\n"),
    ]);
    assert_eq!(eset(&settings).login, "a@example.com");
    assert_eq!(given(&eset(&settings).password), "canary-7f3a\n");
    assert!(warnings(&settings)[0].starts_with("`ESET_PASSWORD` begins or ends with white space"));
}

#[test]
fn no_debug_and_no_error_shows_a_secret() {
    let connections =
        r#"[{"name":"contoso","source":"eset","settings":{"ESET_LOGIN":"b@example.com"}}]"#;
    let good = with(&[
        ("CONNECTIONS", connections),
        ("CONTOSO_ESET_PASSWORD", CANARY),
    ]);
    assert!(!format!("{:?}", local(&good)).contains(CANARY));
    assert!(!format!("{:?}", local(&ESET)).contains(CANARY));
    let environment: Environment = good.iter().copied().collect();
    assert!(!format!("{environment:?}").contains(CANARY));
    let bad = with(&[("ESET_LOGIN", ""), ("LOG_LEVEL", "loud")]);
    let failed = load(Mode::Local, &bad).unwrap_err();
    assert!(!format!("{failed:?} {failed}").contains(CANARY));
    let error: crate::error::Error = failed.into();
    assert_eq!(error.kind(), crate::error::Kind::Config);
    let text = error.to_string();
    assert!(text.starts_with("`ESET_LOGIN` is not set"), "{text}");
    assert!(text.contains("; `LOG_LEVEL` is"), "{text}");
}

#[test]
fn wrong_log_settings_do_not_keep_anybody_from_logging() {
    let environment = Environment::from_iter([("LOG_LEVEL", "loud"), ("LOG_FORMAT", "json")]);
    assert_eq!(
        LogSettings::load(&environment, Mode::Host),
        LogSettings {
            level: LevelFilter::INFO,
            format: Format::Json
        }
    );
    let environment = Environment::from_iter([("LOG_LEVEL", "debug"), ("LOG_FORMAT", "json")]);
    assert_eq!(
        LogSettings::load(&environment, Mode::Local),
        LogSettings {
            level: LevelFilter::DEBUG,
            format: Format::Json
        }
    );
}
