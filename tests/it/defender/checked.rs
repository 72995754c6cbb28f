//! What `check` says of a tenant: what is missing, by its name, and what is too much.

use sentinel_connector::{
    check::{self, Finding, Found},
    config::Mode,
    simulator::Target,
};

use super::Tenant;

async fn findings(tenant: &Tenant) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |finding| findings.push(finding);
    check::dependencies(&tenant.app(), &mut tell).await;
    findings
}

/// What is said of roles, connection and API before it.
async fn notes(tenant: &Tenant) -> Vec<String> {
    let found = findings(tenant).await.into_iter();
    found
        .filter(|one| one.found == Found::Note && one.what.contains("login"))
        .map(|one| format!("{}: {}", one.what, one.text))
        .collect()
}

/// The company, of which these streams are read by an app that holds these roles.
fn holding(streams: &str, roles: &[&str]) -> Tenant {
    Tenant::with(streams, |options| {
        options.defender.roles = roles.iter().map(|role| (*role).to_owned()).collect();
    })
}

#[tokio::test]
async fn a_missing_licence_or_role_is_named_exactly() {
    let mut tenant = Tenant::new("machines,vulnerabilities,alerts,incidents");
    tenant.set("DEFENDER_ALERTS_API", "mde");
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    for fault in [
        "defender.vulnerabilities:no-licence",
        "defender.catalogue:no-licence",
        "defender.alerts.mde:no-licence",
        "defender.machines:missing-role",
        "defender.incidents:missing-role",
        "defender.hunting:not-provisioned",
    ] {
        tenant.inject(&format!("{fault}x*"));
    }
    let found = findings(&tenant).await;
    let bad: Vec<String> = found
        .iter()
        .filter(|one| one.found == Found::Bad)
        .map(|one| format!("{}: {}", one.what, one.text))
        .collect();
    insta::assert_snapshot!(bad.join("\n"), @"
    default/defender.machines: answered 403 Forbidden: the app lacks the role Machine.Read.All or Machine.ReadWrite.All: grant the app the application role `Machine.Read.All` of `WindowsDefenderATP`, with admin consent, or take `machines` out of `DEFENDER_STREAMS`
    default/defender.vulnerabilities: answered 401 Unauthorized (`No Tvm license`): the tenant has no licence of Microsoft Defender Vulnerability Management: get the licence or set the product up, or take the stream out of `DEFENDER_STREAMS`; it is asked for again after a day
    default/defender.vulnerability-catalogue: answered 401 Unauthorized (`No Tvm license`): the tenant has no licence of Microsoft Defender Vulnerability Management: get the licence or set the product up, or take the stream out of `DEFENDER_STREAMS`; it is asked for again after a day
    default/defender.alerts: answered 401 Unauthorized (`Account mode is inactive`): Microsoft Defender for Endpoint is not active in the tenant: it has no licence of it, or one that has ended: get the licence or set the product up, or take the stream out of `DEFENDER_STREAMS`; it is asked for again after a day
    default/defender.incidents: answered 403 Forbidden: the app lacks the role SecurityIncident.Read.All or SecurityIncident.ReadWrite.All: grant the app the application role `SecurityIncident.Read.All` of Microsoft Graph, with admin consent, or set `DEFENDER_INCIDENTS_API=xdr` for an app that holds `Incident.Read.All`
    default/defender.hunting.DeviceEvents: answered 403 Forbidden (`Account is not provisioned`): Microsoft Defender XDR is not set up in the tenant: get the licence or set the product up, or take the table out of `DEFENDER_HUNTING_TABLES`; it is asked for again after a day
    ");
}

#[tokio::test]
async fn an_answer_that_a_run_would_refuse_is_not_called_readable() {
    let mut tenant = Tenant::new("machines,vulnerabilities,alerts,incidents");
    for fault in [
        "defender.alerts:rubbish",
        "defender.machines:truncated",
        "defender.incidents:empty-200",
    ] {
        tenant.inject(&format!("{fault}x*"));
    }
    let found = findings(&tenant).await;
    let of = |stream: &str| -> Vec<(Found, String)> {
        let of_stream = found.iter().filter(|one| one.what.ends_with(stream));
        let looked = of_stream.filter(|one| one.text != "has not run yet");
        looked.map(|one| (one.found, one.text.clone())).collect()
    };
    for stream in [
        "/defender.alerts",
        "/defender.machines",
        "/defender.incidents",
    ] {
        let told = of(stream);
        assert!(
            told.iter().any(|(found, _)| *found == Found::Bad)
                && told.iter().all(|(found, _)| *found != Found::Ok),
            "{stream}: {told:?}"
        );
    }
    let told = format!("{:?}", of("/defender.alerts"));
    assert!(
        told.contains("web page") && told.contains("proxy"),
        "{told}"
    );
    let told = of("/defender.vulnerabilities");
    assert_eq!(told, [(Found::Ok, "may be read".to_owned())]);

    // A run says so as well.
    let reports = tenant.run().await;
    let alerts = reports
        .iter()
        .find(|one| one.key.stream == "defender.alerts");
    let reason = alerts.unwrap().reason.clone().unwrap();
    assert!(
        reason.contains("web page") && reason.contains("proxy"),
        "{reason}"
    );
    assert!(!reason.contains("please report"), "{reason}");
}

#[tokio::test]
async fn consent_works_at_once_though_the_first_token_lacks_the_role() {
    let mut tenant = Tenant::new("alerts,incidents");
    tenant.inject("entra.token:no-roles");
    tenant.run_well().await;
    // Without consent no run asks for more than one other token of a service.
    let mut tenant = Tenant::new("alerts,incidents");
    tenant.inject("entra.token:no-rolesx*");
    let reports = tenant.run().await;
    assert_eq!(reports.len(), 2);
    for report in &reports {
        let reason = report.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("lacks the role"), "{reason}");
    }
    let calls = tenant.simulator.calls();
    let tokens = calls.iter();
    let tokens = tokens.filter(|call| call.target == Some(Target::EntraToken));
    assert_eq!(tokens.count(), 2);
}

#[tokio::test]
async fn roles_that_no_stream_needs_are_named_once() {
    // As the table of `docs/defender.md` has it, each stream finds its own role and no other.
    let mut tenant = holding(
        "machines,vulnerabilities,software-vulnerabilities,alerts,incidents",
        &[
            "Machine.Read.All",
            "User.Read.All",
            "Vulnerability.Read.All",
            "SecurityAlert.Read.All",
            "SecurityIncident.Read.All",
            "ThreatHunting.Read.All",
        ],
    );
    tenant.set("DEFENDER_HUNTING_TABLES", "DeviceEvents");
    assert_eq!(notes(&tenant).await, [""; 0]);

    // Alerts come from Graph, and a token of Graph is nobody's business but Graph's; what can change
    // things is told first.
    let tenant = holding(
        "machines,vulnerabilities,software-vulnerabilities,alerts",
        &[
            "Alert.Read.All",
            "Machine.Read.All",
            "Machine.ReadWrite.All",
            "Vulnerability.Read.All",
            "SecurityAlert.Read.All",
            "SecurityAlert.ReadWrite.All",
            "ThreatHunting.Read.All",
        ],
    );
    insta::assert_snapshot!(notes(&tenant).await.join("\n"), @"
    default: login for WindowsDefenderATP: the app holds `Machine.ReadWrite.All` (more than reading), and no stream that is pulled needs it: take it away
    default: login for WindowsDefenderATP: the app holds `Alert.Read.All`, and no stream that is pulled needs it: take it away
    ");

    // The same app, of which other things are wanted.
    let mut tenant = holding(
        "alerts,incidents",
        &[
            "Alert.Read.All",
            "Incident.Read.All",
            "Incident.ReadWrite.All",
        ],
    );
    tenant.set("DEFENDER_ALERTS_API", "mde");
    tenant.set("DEFENDER_INCIDENTS_API", "xdr");
    insta::assert_snapshot!(notes(&tenant).await.join("\n"), @"default: login for Microsoft Threat Protection: the app holds `Incident.ReadWrite.All` (more than reading), and no stream that is pulled needs it: take it away");
}

#[tokio::test]
async fn a_broad_role_that_a_stream_lives_on_is_to_be_replaced() {
    let tenant = holding(
        "machines,alerts",
        &["Machine.ReadWrite.All", "SecurityIncident.Read.All"],
    );
    insta::assert_snapshot!(notes(&tenant).await.join("\n"), @"default: login for WindowsDefenderATP: the app holds `Machine.ReadWrite.All` (more than reading) where `Machine.Read.All` is enough: grant that in its place");
}

/// A token that says nothing of its roles is no reason to say anything.
#[tokio::test]
async fn without_consent_there_is_nothing_too_much() {
    let tenant = Tenant::new("machines,alerts");
    tenant.inject("entra.token:no-rolesx*");
    assert_eq!(notes(&tenant).await, [""; 0]);
}

#[test]
fn tables_that_hold_nothing_of_endpoints_are_told_where_they_are_left_out() {
    let mut tenant = Tenant::new("none");
    tenant.set(
        "DEFENDER_HUNTING_TABLES",
        "DeviceEvents,EmailEvents,AlertInfo",
    );
    let notes = |tenant: &Tenant| {
        let mut notes = Vec::new();
        let mut tell = |one: Finding| {
            if one.found == Found::Note && one.what == "DEFENDER_HUNTING_TABLES" {
                notes.push(one.text);
            }
        };
        check::settings(&tenant.environment(), Mode::Local, &mut tell).unwrap();
        notes
    };
    assert_eq!(notes(&tenant), [""; 0]);
    tenant.set("DEFENDER_ENDPOINT_ONLY", "yes");
    insta::assert_snapshot!(notes(&tenant).join("\n"), @"default: `DEFENDER_ENDPOINT_ONLY` leaves out AlertInfo, EmailEvents: no tables of devices");
    let streams: Vec<String> = (tenant.app().jobs())
        .map(|job| job.key.stream.clone())
        .collect();
    assert_eq!(streams, ["defender.hunting.DeviceEvents"]);
}

#[test]
fn incidents_that_can_not_be_told_to_be_sentinels_own_are_said_to_land() {
    let mut tenant = Tenant::new("alerts,incidents");
    let notes = |tenant: &Tenant| {
        let mut notes = 0;
        let mut tell = |one: Finding| {
            let is_it = one.found == Found::Note && one.what == "DEFENDER_INCIDENT_ALERTS";
            notes += usize::from(is_it);
        };
        check::settings(&tenant.environment(), Mode::Local, &mut tell).unwrap();
        notes
    };
    assert_eq!(notes(&tenant), 1);
    for (setting, value) in [
        ("DEFENDER_INCIDENT_ALERTS", "yes"),
        ("DEFENDER_SENTINEL_ALERTS", "yes"),
        ("DEFENDER_INCIDENTS_API", "xdr"),
        ("DEFENDER_STREAMS", "alerts"),
    ] {
        let mut other = Tenant::new("alerts,incidents");
        other.set(setting, value);
        assert_eq!(notes(&other), 0, "{setting}");
    }
    tenant.set("DEFENDER_INCIDENT_ALERTS", "no");
    assert_eq!(notes(&tenant), 1);
}

#[tokio::test]
async fn what_a_federated_credential_lacks_is_named_on_the_side_that_lacks_it() {
    let bad = async |federated: bool, identity: Option<&str>| {
        let mut tenant = Tenant::with("machines", |options| {
            options.defender.federated = federated.then(|| options.federated());
        });
        super::tenants::federate(&mut tenant);
        if let Some(identity) = identity {
            tenant.set("AZURE_CLIENT_ID", identity);
        }
        let mut found = findings(&tenant).await;
        found.retain(|one| one.found == Found::Bad);
        found.into_iter().map(|one| one.text).collect::<Vec<_>>()
    };
    assert_eq!(bad(true, None).await, [""; 0]);
    let app = &bad(false, None).await[..];
    assert!(
        app.len() == 1 && app[0].contains("must have a federated credential with issuer"),
        "{app:?}"
    );
    let identity = &bad(true, Some("other")).await[..];
    assert!(
        identity.len() == 1 && identity[0].contains("identity `other`: it is not assigned"),
        "{identity:?}"
    );
}

#[tokio::test]
async fn a_login_that_fails_is_told_once_and_by_no_stream() {
    let mut tenant = Tenant::new("machines,vulnerabilities");
    tenant.set("DEFENDER_CLIENT_SECRET", "wrong");
    let found = findings(&tenant).await;
    let bad: Vec<&str> = found
        .iter()
        .filter(|one| one.found == Found::Bad)
        .map(|one| one.what.as_str())
        .collect();
    assert_eq!(bad, ["default: login for WindowsDefenderATP"]);
}
