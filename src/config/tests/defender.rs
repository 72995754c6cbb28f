//! The settings of a Defender connection: which hosts they stand for, and which scopes.

use super::*;

const DEFENDER: [(&str, &str); 3] = [
    ("DEFENDER_TENANT_ID", "contoso.example"),
    ("DEFENDER_CLIENT_ID", "7e1d40b8-93c5-4b6e-8f02-d25a61c9b734"),
    ("DEFENDER_CLIENT_SECRET", CANARY),
];

fn defender(more: &[(&str, &str)]) -> DefenderSettings {
    let mut settings = local(&[&DEFENDER, more].concat());
    match settings.connections.remove(0).source {
        Source::Defender(defender) => defender,
        Source::Eset(_) => panic!("a connection to Defender"),
    }
}

#[test]
fn a_short_name_stands_for_the_hosts_of_a_region_or_a_cloud() {
    const XDR: &str = "https://api.security.microsoft.com";
    for (name, api, xdr) in [
        ("us", "https://us.api.security.microsoft.com", XDR),
        ("EU", "https://eu.api.security.microsoft.com", XDR),
        ("uk", "https://uk.api.security.microsoft.com", XDR),
        ("au", "https://au.api.security.microsoft.com", XDR),
        ("swa", "https://swa.api.security.microsoft.com", XDR),
        ("ina", "https://ina.api.security.microsoft.com", XDR),
        ("aea", "https://aea.api.security.microsoft.com", XDR),
        (
            "gcc",
            "https://api-gcc.securitycenter.microsoft.us",
            "https://api-gcc.security.microsoft.us",
        ),
        (
            "gcc-high",
            "https://api-gov.securitycenter.microsoft.us",
            "https://api-gov.security.microsoft.us",
        ),
        (
            "dod",
            "https://api-gov.securitycenter.microsoft.us",
            "https://api-gov.security.microsoft.us",
        ),
        (
            "https://api-eu3.securitycenter.microsoft.com",
            "https://api-eu3.securitycenter.microsoft.com",
            XDR,
        ),
    ] {
        let settings = defender(&[("DEFENDER_API_URL", name)]);
        assert_eq!(settings.api_url, api, "{name}");
        assert_eq!(settings.xdr_url(), xdr, "{name}");
        assert_eq!(settings.xdr_scope(), format!("{xdr}/.default"), "{name}");
        // The region of the host is none of the scope's.
        let scope = "https://api.securitycenter.microsoft.com/.default";
        assert_eq!(settings.api_scope, scope, "{name}");
    }
    let problem = problems(
        Mode::Local,
        &[&DEFENDER[..], &[("DEFENDER_API_URL", "europe")]].concat(),
    );
    assert!(
        problem[0].contains("DEFENDER_API_URL") && problem[0].contains("us, eu, uk, au"),
        "{problem:?}"
    );
}

#[test]
fn a_cloud_of_its_own_has_scopes_of_its_own() {
    let usual = defender(&[]);
    assert_eq!(usual.api_url, "https://api.security.microsoft.com");
    assert_eq!(usual.graph_scope(), "https://graph.microsoft.com/.default");
    let high = defender(&[
        ("DEFENDER_API_URL", "gcc-high"),
        (
            "DEFENDER_API_SCOPE",
            "https://api-gov.securitycenter.microsoft.us/.default",
        ),
        ("GRAPH_URL", "https://graph.microsoft.us"),
    ]);
    assert_eq!(
        high.api_scope,
        "https://api-gov.securitycenter.microsoft.us/.default"
    );
    assert_eq!(high.graph_scope(), "https://graph.microsoft.us/.default");
    // A host that nobody knows takes the tokens of the public cloud.
    let proxied = defender(&[
        ("DEFENDER_API_URL", "https://proxy.example/defender"),
        ("GRAPH_URL", "https://proxy.example/graph"),
    ]);
    assert_eq!(proxied.xdr_url(), "https://proxy.example/defender");
    assert_eq!(
        proxied.xdr_scope(),
        "https://api.security.microsoft.com/.default"
    );
    assert_eq!(
        proxied.graph_scope(),
        "https://graph.microsoft.com/.default"
    );
}

#[test]
fn lists_are_read_as_people_write_them() {
    let more = [
        ("DEFENDER_STREAMS", "Machines, alerts,"),
        ("DEFENDER_VULNERABILITY_SEVERITIES", "critical, HIGH"),
        ("DEFENDER_HUNTING_TABLES", " DeviceEvents,MiscEvents "),
    ];
    let settings = local(&[&DEFENDER[..], &more].concat());
    assert_eq!(words(&settings, "DEFENDER_STREAMS"), ["alerts", "machines"]);
    assert_eq!(
        words(&settings, "DEFENDER_HUNTING_TABLES"),
        ["DeviceEvents", "MiscEvents"]
    );
    assert_eq!(defender(&more).severities, ["Critical", "High"]);
    let none = local(&[&DEFENDER[..], &[("DEFENDER_STREAMS", "none")]].concat());
    assert_eq!(words(&none, "DEFENDER_STREAMS"), Vec::<&str>::new());
    for (name, value) in [
        ("DEFENDER_STREAMS", "machine"),
        ("DEFENDER_VULNERABILITY_SEVERITIES", "severe"),
        ("DEFENDER_ALERTS_API", "xdr"),
        ("DEFENDER_INCIDENTS_API", "mde"),
    ] {
        let found = problems(Mode::Local, &[&DEFENDER[..], &[(name, value)]].concat());
        assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
    }
}

const IDENTITY: &str = "0c9b7d52-6f1e-4c83-a2d4-7be5f9136a08";

fn federated(more: &[(&str, &str)]) -> FederatedIdentity {
    let own = [("DEFENDER_CLIENT_FEDERATED", "yes")];
    defender(&[&own[..], more].concat()).federated.unwrap()
}

#[test]
fn the_audience_of_a_federated_credential_is_that_of_the_cloud() {
    for (authority, audience) in [
        (
            "https://login.microsoftonline.com",
            "api://AzureADTokenExchange",
        ),
        (
            "https://login.microsoftonline.us/",
            "api://AzureADTokenExchangeUSGov",
        ),
        (
            "https://login.chinacloudapi.cn",
            "api://AzureADTokenExchangeChina",
        ),
        (
            "https://login.partner.microsoftonline.cn",
            "api://AzureADTokenExchangeChina",
        ),
        ("https://localhost:7443", "api://AzureADTokenExchange"),
    ] {
        let settings = [
            ("AZURE_CLIENT_ID", IDENTITY),
            ("AZURE_AUTHORITY_HOST", authority),
        ];
        assert_eq!(federated(&settings).audience, audience, "{authority}");
        let own = [(
            "DEFENDER_FEDERATED_AUDIENCE",
            "api://AzureADTokenExchangeUSNat",
        )];
        let own = federated(&[&settings[..], &own].concat());
        assert_eq!(own.audience, "api://AzureADTokenExchangeUSNat");
    }
}

#[test]
fn the_federated_identity_is_the_apps_own_or_the_one_that_opens_the_storage() {
    assert_eq!(
        federated(&[("AZURE_CLIENT_ID", IDENTITY)]).client_id,
        IDENTITY
    );
    let app = [
        ("AZURE_TENANT_ID", "contoso.example"),
        ("AZURE_CLIENT_ID", "b3a7e1c4-52d9-4f0e-8a66-91c2d7f05e38"),
        ("AZURE_CLIENT_SECRET", CANARY),
    ];
    let storage = [("AzureWebJobsStorage__clientId", IDENTITY)];
    assert_eq!(
        federated(&[&app[..], &storage].concat()).client_id,
        IDENTITY
    );
    for (more, missing) in [
        (&[][..], "`AZURE_CLIENT_ID`"),
        (&app, "`AzureWebJobsStorage__clientId`"),
    ] {
        let own = [("DEFENDER_CLIENT_FEDERATED", "yes")];
        let settings = [&DEFENDER[..2], &own, more].concat();
        let problems = problems(Mode::Local, &settings);
        assert!(
            problems.len() == 1 && problems[0].contains(missing),
            "{problems:?}"
        );
    }
}

#[test]
fn a_federated_identity_takes_the_place_of_secret_and_certificate() {
    let settings = local(
        &[
            &DEFENDER[..],
            &[
                ("DEFENDER_CLIENT_FEDERATED", "yes"),
                ("AZURE_CLIENT_ID", IDENTITY),
                ("DEFENDER_CLIENT_CERTIFICATE_PATH", "/app.pem"),
                ("KEY_VAULT_URL", "https://contoso.vault.azure.net"),
            ],
        ]
        .concat(),
    );
    let warnings = warnings(&settings);
    assert!(
        warnings.len() == 2 && warnings.iter().all(|one| one.contains("is not used")),
        "{warnings:?}"
    );
    let Source::Defender(own) = &settings.connections[0].source else {
        panic!("{settings:?}");
    };
    assert!(
        own.federated.is_some() && own.client_secret.is_none() && own.client_certificate.is_none()
    );

    // One of several; the others have a secret.
    let list = r#"[{"name":"a","source":"defender","settings":{"DEFENDER_CLIENT_FEDERATED":"yes"}},
        {"name":"b","source":"defender"},
        {"name":"c","source":"defender","settings":{"DEFENDER_CLIENT_FEDERATED":"maybe"}}]"#;
    let more = [("CONNECTIONS", list), ("AZURE_CLIENT_ID", IDENTITY)];
    let settings = local(&[&DEFENDER[..], &more].concat());
    assert_eq!(super::warnings(&settings), [""; 0]);
    let federated = settings.connections.iter().map(|one| match &one.source {
        Source::Defender(own) => (own.federated.is_some(), own.client_secret.is_some()),
        Source::Eset(_) => panic!("{one:?}"),
    });
    assert_eq!(
        federated.collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
    assert_eq!(
        settings.broken[0].problems.len(),
        1,
        "{:?}",
        settings.broken
    );
}
