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
