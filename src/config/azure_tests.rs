use secrecy::ExposeSecret;

use super::*;

const CANARY: &str = "canary-7f3a";

fn load(mode: Mode, settings: &[(&str, &str)]) -> Result<Settings, Problems> {
    Settings::load(&settings.iter().copied().collect(), mode)
}

fn problems(settings: &[(&str, &str)]) -> Vec<String> {
    let problems = load(Mode::Local, settings).unwrap_err();
    problems.problems.iter().map(ToString::to_string).collect()
}

fn warnings(settings: &Settings) -> Vec<String> {
    settings.warnings.iter().map(ToString::to_string).collect()
}

const ESET: [(&str, &str); 2] = [("ESET_REGION", "eu"), ("ESET_LOGIN", "api@example.com")];

const VAULT: (&str, &str) = ("KEY_VAULT_URL", "https://contoso.vault.azure.net/");

#[test]
fn an_identity_has_defaults_and_is_read_whole() {
    let identity = load(Mode::Local, &[]).unwrap().identity;
    assert_eq!(identity.authority_host, "https://login.microsoftonline.com");
    assert!(identity.client_id.is_none() && identity.endpoint.is_none());

    let settings = load(
        Mode::Local,
        &[
            ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
            ("AZURE_CLIENT_ID", "b3a7e1c4-52d9-4f0e-8a66-91c2d7f05e38"),
            ("AZURE_CLIENT_SECRET", CANARY),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"),
            ("IDENTITY_ENDPOINT", "http://169.254.129.2:8081/msi/token"),
            ("IDENTITY_HEADER", CANARY),
            ("AzureWebJobsStorage", CANARY),
            ("STORAGE", "azure"),
        ],
    )
    .unwrap();
    assert!(!format!("{settings:?}").contains(CANARY));
    let identity = settings.identity;
    assert_eq!(
        identity.tenant_id.as_deref(),
        Some("contoso.onmicrosoft.com")
    );
    assert_eq!(identity.client_secret.unwrap().expose_secret(), CANARY);
    assert_eq!(identity.authority_host, "https://login.microsoftonline.us");
    assert_eq!(
        identity.endpoint.as_deref(),
        Some("http://169.254.129.2:8081/msi/token")
    );
}

#[test]
fn half_an_app_registration_is_a_problem() {
    let found = problems(&[("AZURE_CLIENT_SECRET", CANARY)]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("`AZURE_TENANT_ID` is not set"));
    assert!(found[1].starts_with("`AZURE_CLIENT_ID` is not set"));
    let found = problems(&[
        ("AZURE_TENANT_ID", "a/b"),
        ("AZURE_CLIENT_ID", "my app"),
        ("AZURE_AUTHORITY_HOST", "http://localhost"),
        ("KEY_VAULT_URL", "http://localhost"),
        ("IDENTITY_ENDPOINT", "ftp://x"),
    ]);
    assert_eq!(found.len(), 5, "{found:#?}");
    let both = load(
        Mode::Local,
        &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", CANARY),
            ("AZURE_CLIENT_CERTIFICATE_PATH", "app.pem"),
        ],
    );
    assert!(warnings(&both.unwrap())[0].starts_with("`AZURE_CLIENT_CERTIFICATE_PATH` is not used"));
}

#[test]
fn a_secret_that_is_not_set_is_in_the_vault() {
    let named = |settings: &[(&str, &str)]| -> Vec<String> {
        let settings = load(Mode::Local, settings).unwrap();
        let names = settings.connections.iter().map(|connection| {
            let Source::Eset(eset) = &connection.source else {
                panic!("a connection to ESET");
            };
            match &eset.password {
                SecretSource::Given(secret) => secret.expose_secret().to_owned(),
                SecretSource::Vault { name, setting, .. } => format!("{setting} as {name}"),
            }
        });
        names.collect()
    };
    let vault = [ESET[0], ESET[1], VAULT];
    assert_eq!(named(&vault), ["ESET_PASSWORD as eset-password"]);
    let given = [ESET[0], ESET[1], VAULT, ("ESET_PASSWORD", CANARY)];
    assert_eq!(named(&given), [CANARY]);
    let connections = r#"[{"name":"main","source":"eset"},
        {"name":"contoso","source":"eset","settings":{"ESET_LOGIN":"b@example.com"}}]"#;
    let several = [ESET[0], ESET[1], VAULT, ("CONNECTIONS", connections)];
    assert_eq!(
        named(&several),
        [
            "ESET_PASSWORD as eset-password",
            "ESET_PASSWORD as contoso-eset-password"
        ]
    );
    let without = problems(&ESET);
    assert!(
        without[0].starts_with("`ESET_PASSWORD` is not set"),
        "{without:?}"
    );
}

#[test]
fn a_connection_may_have_a_vault_of_its_own_without_its_name_in_front() {
    let connections = r#"[{"name":"main","source":"eset"},
        {"name":"contoso","source":"eset","settings":{"ESET_LOGIN":"b@example.com",
            "KEY_VAULT_URL":"https://contoso.vault.azure.net"}},
        {"name":"fabrikam","source":"defender","settings":{"DEFENDER_CLIENT_ID":"7e1d40b8",
            "DEFENDER_TENANT_ID":"fabrikam.example","KEY_VAULT_URL":"https://fabrikam.vault.azure.net"}},
        {"name":"wrong","source":"eset","settings":{"KEY_VAULT_URL":"http://vault.example"}}]"#;
    let flat = ("KEY_VAULT_URL", "https://home.vault.azure.net");
    let settings = [ESET[0], ESET[1], flat, ("CONNECTIONS", connections)];
    let settings = load(Mode::Local, &settings).unwrap();
    let kept = settings
        .connections
        .iter()
        .map(|one| match one.source.secret() {
            Some(SecretSource::Vault { url, name, .. }) => (url.as_str(), name.as_str()),
            other => panic!("{other:?}"),
        });
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [
            ("https://home.vault.azure.net", "eset-password"),
            ("https://contoso.vault.azure.net", "eset-password"),
            ("https://fabrikam.vault.azure.net", "defender-client-secret"),
        ]
    );
    let wrong = &settings.broken[0];
    assert_eq!(
        (wrong.name.as_str(), wrong.problems.len()),
        ("wrong", 1),
        "{wrong:?}"
    );
}

#[test]
fn secrets_of_the_app_are_not_settings_of_a_connection() {
    let connections =
        r#"[{"name":"one","source":"eset","settings":{"AZURE_CLIENT_SECRET":"canary-7f3a"}}]"#;
    let found = problems(&[ESET[0], ESET[1], VAULT, ("CONNECTIONS", connections)]);
    assert!(found[0].contains("applies to the whole app"), "{found:?}");
    assert!(!found.concat().contains(CANARY));
}

#[test]
fn the_account_of_the_host_is_the_storage() {
    let azure = |mode, settings: &[(&str, &str)]| match load(mode, settings).unwrap().storage {
        StorageSettings::Azure(azure) => azure,
        StorageSettings::Embedded => panic!("embedded"),
    };
    let sink = ("SINK", "embedded");
    let account = ("AzureWebJobsStorage__accountName", "contoso1");
    let client = ("AzureWebJobsStorage__clientId", "b3a7e1c4");
    let credential = ("AzureWebJobsStorage__credential", "managedidentity");
    let storage = azure(Mode::Host, &[sink, account, client, credential]);
    assert_eq!(storage.account_name.as_deref(), Some("contoso1"));
    assert_eq!(storage.client_id.as_deref(), Some("b3a7e1c4"));
    assert!(storage.connection_string.is_none());

    let string = ("AzureWebJobsStorage", "UseDevelopmentStorage=true");
    let storage = azure(Mode::Host, &[sink, string]);
    let string = storage.connection_string.unwrap();
    assert_eq!(string.expose_secret(), "UseDevelopmentStorage=true");

    let uris = [
        ("STORAGE", "azure"),
        (
            "AzureWebJobsStorage__tableServiceUri",
            "https://a.table.core.windows.net/",
        ),
        (
            "AzureWebJobsStorage__blobServiceUri",
            "https://a.blob.core.windows.net",
        ),
    ];
    let storage = azure(Mode::Local, &uris);
    assert_eq!(
        storage.table_uri.as_deref(),
        Some("https://a.table.core.windows.net")
    );

    let queues = [
        uris[0],
        uris[1],
        uris[2],
        (
            "AzureWebJobsStorage__queueServiceUri",
            "https://a.queue.core.windows.net/",
        ),
    ];
    let queue_uri = azure(Mode::Local, &queues).queue_uri;
    assert_eq!(
        queue_uri.as_deref(),
        Some("https://a.queue.core.windows.net")
    );

    // On a laptop the host's account is used by those who ask for it.
    let local = load(Mode::Local, &[account]).unwrap();
    assert!(matches!(local.storage, StorageSettings::Embedded));
    let asked = load(Mode::Host, &[sink, account, ("STORAGE", "embedded")]).unwrap();
    assert!(matches!(asked.storage, StorageSettings::Embedded));

    for bad in [
        vec![("STORAGE", "azure")],
        vec![("STORAGE", "azure"), uris[1]],
        vec![
            ("STORAGE", "azure"),
            ("AzureWebJobsStorage__accountName", "https://a"),
        ],
        vec![
            ("STORAGE", "azure"),
            account,
            ("AzureWebJobsStorage__credential", "secret"),
        ],
        vec![
            ("STORAGE", "azure"),
            account,
            ("AzureWebJobsStorage__blobServiceUri", "http://a.b"),
        ],
    ] {
        assert_eq!(problems(&bad).len(), 1, "{bad:?}");
    }
}

#[test]
fn the_scope_is_that_of_the_endpoints_cloud() {
    let scope = |host: &str, more: &[(&str, &str)]| {
        let endpoint = format!("https://{host}");
        let mut settings = vec![
            ("SINK", "logs-ingestion"),
            ("LOGS_INGESTION_ENDPOINT", endpoint.as_str()),
            ("DCR_IMMUTABLE_ID", "dcr-1"),
            ("ROUTES", "eset.incidents=Custom-Mine_CL"),
        ];
        settings.extend_from_slice(more);
        let settings = load(Mode::Local, &settings).unwrap();
        assert_eq!(settings.routes[0].table, "Mine_CL");
        match settings.sink {
            SinkSettings::LogsIngestion { scope, .. } => scope,
            SinkSettings::Embedded => panic!("embedded"),
        }
    };
    let public = "https://monitor.azure.com//.default";
    assert_eq!(
        scope("a.westeurope-1.ingest.monitor.azure.com", &[]),
        public
    );
    assert_eq!(scope("localhost:7443", &[]), public);
    let government = "https://monitor.azure.us//.default";
    assert_eq!(
        scope("a.usgovvirginia-1.ingest.monitor.azure.us", &[]),
        government
    );
    let china = "https://monitor.azure.cn//.default";
    assert_eq!(scope("a.ingest.monitor.azure.cn:443", &[]), china);
    let own = ("LOGS_INGESTION_SCOPE", "https://a.b/.default");
    assert_eq!(scope("a.us", &[own]), own.1);
}

#[test]
fn a_price_is_a_number_and_perhaps_a_currency() {
    let price = |text| {
        load(Mode::Local, &[("PRICE_PER_GB", text)])
            .unwrap()
            .run
            .price
    };
    for (text, thousandths, currency) in [
        ("2.99 USD", 2_990, "USD"),
        ("3", 3_000, ""),
        ("0.005 EUR", 5, "EUR"),
    ] {
        let price = price(text).unwrap();
        assert_eq!(
            (price.thousandths, price.currency()),
            (thousandths, currency)
        );
    }
    assert_eq!(load(Mode::Local, &[]).unwrap().run.price, None);
    for wrong in [
        "USD 2.99", "2,99", "1.2345", ".5", "9999999", "2.99 $", "-1", "2.99 eur",
    ] {
        let found = problems(&[("PRICE_PER_GB", wrong), ("SINK", "embedded")]);
        let says = format!("`PRICE_PER_GB` is `{wrong}`");
        assert!(found[0].starts_with(&says), "{found:?}");
    }
}

#[test]
fn the_outbox_has_a_limit() {
    assert_eq!(
        load(Mode::Local, &[]).unwrap().run.outbox_max_bytes,
        1_000_000_000
    );
    let settings = load(Mode::Local, &[("OUTBOX_MAX_BYTES", "5GB")]).unwrap();
    assert_eq!(settings.run.outbox_max_bytes, 5_000_000_000);
    let found = problems(&[("OUTBOX_MAX_BYTES", "much"), ("SINK", "embedded")]);
    assert!(found[0].starts_with("`OUTBOX_MAX_BYTES` is `much`"));
    let embedded = load(Mode::Local, &[("ROUTES", "a=Custom-A_CL")]).unwrap();
    assert_eq!(embedded.routes[0].table, "A_CL");
    assert_eq!(warnings(&embedded), Vec::<String>::new());
}

#[test]
fn one_connection_can_be_kept_alone() {
    let two = r#"[{"name":"a","source":"defender","settings":{"DEFENDER_TENANT_ID":"t1"}},
                  {"name":"b","source":"defender","settings":{"DEFENDER_TENANT_ID":"t2"}}]"#;
    let mut settings = load(Mode::Local, &[("CONNECTIONS", two)]).unwrap();
    let error = settings.keep_connection("c").unwrap_err().to_string();
    assert!(
        error.contains("no connection `c`; there are `a`, `b`"),
        "{error}"
    );
    settings.keep_connection("b").unwrap();
    let names: Vec<&str> = settings
        .connections
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn who_scales_out_keeps_positions_where_all_instances_find_them() {
    let scaled = ("SCALE_OUT", "queue");
    let found = problems(&[scaled]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("`SCALE_OUT`") && found[0].contains("`STORAGE=azure`"),
        "{found:?}"
    );
    let account = ("AzureWebJobsStorage", "UseDevelopmentStorage=true");
    let azure = [account, ("STORAGE", "azure")];
    let settings = load(Mode::Local, &[azure[0], azure[1], scaled]).unwrap();
    assert!(settings.run.scale_out);
    assert!(!load(Mode::Local, &azure).unwrap().run.scale_out);
    assert!(
        !load(Mode::Local, &[("SCALE_OUT", "off")])
            .unwrap()
            .run
            .scale_out
    );
    let wrong = problems(&[azure[0], azure[1], ("SCALE_OUT", "service-bus")]);
    assert!(wrong[0].contains("queue"), "{wrong:?}");
}
