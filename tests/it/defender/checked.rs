//! What `check` says of a tenant: what is missing, by its name, and what is too much.

use sentinel_connector::check::{self, Finding, Found};

use super::Tenant;

async fn findings(tenant: &Tenant) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |finding| findings.push(finding);
    check::dependencies(&tenant.app(), &mut tell).await;
    findings
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
