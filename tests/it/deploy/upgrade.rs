//! What was changed on a deployed app, after the template is deployed over it again: by the next
//! version, or by the one before. A resource loses whatever the new deployment does not state.

use serde_json::{Value, json};

use super::{
    azure::{Deployed, Resource, deploy_over},
    deployed, parameters, template,
};

const DETECTIONS: &str = "/tables/IntegrationTable_CL";
const INCIDENTS: &str = "/tables/IntegrationTableIncidents_CL";
const RULE: &str = "Microsoft.Insights/dataCollectionRules";
const SITE: &str = "Microsoft.Web/sites";
/// The part of the app that the template states in the app itself.
const WEB: &str = "/config/web";
const SETTINGS: &str = "/config/appsettings";

/// What a customer changes on what is there: resource, by its type or the end of its id; member of
/// its properties; value.
fn choices() -> Vec<(&'static str, &'static str, Value)> {
    let ranges = json!([{ "ipAddress": "192.0.2.0/24", "action": "Allow", "priority": 100 }]);
    let addresses = json!([{ "value": "192.0.2.7", "action": "Allow" }]);
    let subnets = json!([{ "id": "/subscriptions/x/subnets/one" }]);
    let kql = "source | where severityLevel != 'low'";
    let mut choices = vec![
        (RULE, "/dataFlows/0/transformKql", json!(kql)),
        (RULE, "/dataFlows/1/transformKql", json!("source | take 9")),
        (DETECTIONS, "/retentionInDays", json!(180)),
        (DETECTIONS, "/totalRetentionInDays", json!(730)),
        (INCIDENTS, "/plan", json!("Auxiliary")),
        (INCIDENTS, "/totalRetentionInDays", json!(4383)),
        (WEB, "/ipSecurityRestrictions", ranges.clone()),
        (WEB, "/ipSecurityRestrictionsDefaultAction", json!("Deny")),
        (WEB, "/scmIpSecurityRestrictions", ranges),
        (
            WEB,
            "/scmIpSecurityRestrictionsDefaultAction",
            json!("Deny"),
        ),
        (WEB, "/scmIpSecurityRestrictionsUseMain", json!(false)),
        (SITE, "/virtualNetworkSubnetId", json!("/subnets/own")),
        (SITE, "/publicNetworkAccess", json!("Disabled")),
        (SETTINGS, "/ESET_SCHEDULE", json!("0 0 * * * *")),
        (SETTINGS, "/DEFENDER_SCHEDULE", json!("0 0 * * * *")),
        (SETTINGS, "/PUSH_SCHEDULE", json!("0 */2 * * * *")),
        (SETTINGS, "/STREAMS_AT_ONCE", json!("4")),
    ];
    for resource in [
        "Microsoft.Storage/storageAccounts",
        "Microsoft.KeyVault/vaults",
    ] {
        choices.extend([
            (resource, "/publicNetworkAccess", json!("Disabled")),
            (resource, "/networkAcls/bypass", json!("None")),
            (resource, "/networkAcls/defaultAction", json!("Deny")),
            (resource, "/networkAcls/ipRules", addresses.clone()),
            (
                resource,
                "/networkAcls/virtualNetworkRules",
                subnets.clone(),
            ),
        ]);
    }
    choices
}

fn find<'a>(resources: &'a [Resource], which: &str) -> &'a Resource {
    let found = resources
        .iter()
        .find(|one| one.kind == which || one.id.ends_with(which));
    found.unwrap_or_else(|| panic!("no {which}"))
}

/// What is there after a deployment, as it is asked for later: every app has its `config/web`, and it
/// holds what the app stated.
fn there(deployed: &Deployed) -> Vec<Resource> {
    let mut there = deployed.resources.clone();
    let site = find(&there, SITE).clone();
    there.push(Resource {
        id: format!("{}{WEB}", site.id),
        kind: "Microsoft.Web/sites/config".to_owned(),
        name: format!("{}/web", site.name),
        body: json!({ "properties": site.body["properties"]["siteConfig"] }),
    });
    there
}

fn set(resource: &mut Resource, member: &str, value: &Value) {
    let mut at = &mut resource.body["properties"];
    for name in member.trim_start_matches('/').split('/') {
        at = match name.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[name],
        };
    }
    *at = value.clone();
}

/// Adds a column to a table and to the stream of the rule, as a customer does who fills it there.
fn with_own_column(there: &mut [Resource]) {
    for (which, list, kind) in [
        (DETECTIONS, "/properties/schema/columns", "dateTime"),
        (
            RULE,
            "/properties/streamDeclarations/Custom-IntegrationTable_CL/columns",
            "datetime",
        ),
    ] {
        let found = there
            .iter_mut()
            .find(|one| one.kind == which || one.id.ends_with(which));
        let columns = found.unwrap().body.pointer_mut(list).unwrap();
        let own = json!({ "name": "Site", "type": kind, "description": "where it stands" });
        columns.as_array_mut().unwrap().push(own);
    }
}

/// The choices that a deployment does not state.
fn lost(deployed: &Deployed) -> Vec<String> {
    let now = there(deployed);
    let mut lost = Vec::new();
    for (which, member, value) in choices() {
        let resource = find(&now, which);
        if resource.body["properties"].pointer(member) != Some(&value) {
            lost.push(format!("{which}{member}"));
        }
    }
    for (which, list) in [
        (DETECTIONS, "/properties/schema/columns"),
        (
            RULE,
            "/properties/streamDeclarations/Custom-IntegrationTable_CL/columns",
        ),
    ] {
        let columns = find(&now, which).body.pointer(list).unwrap();
        let own = columns.as_array().unwrap().iter();
        if own.filter(|column| column["name"] == "Site").count() != 1 {
            lost.push(format!("{which}: its own column"));
        }
    }
    lost
}

fn customised(first: &Deployed) -> Vec<Resource> {
    let mut there = there(first);
    for (which, member, value) in choices() {
        let found = there
            .iter_mut()
            .find(|one| one.kind == which || one.id.ends_with(which));
        set(found.unwrap(), member, &value);
    }
    with_own_column(&mut there);
    there
}

fn over(there: &[Resource], template: &Value, more: &Value) -> Deployed {
    deploy_over(there, template, &parameters(more)).unwrap()
}

#[test]
fn an_upgrade_puts_nothing_back_that_the_customer_chose() {
    let there = customised(&deployed(&json!({})));
    let again = over(&there, &template(), &json!({ "upgrade": true }));
    assert_eq!(lost(&again), [""; 0]);
    // Nor does the one after it.
    let third = over(
        &self::there(&again),
        &template(),
        &json!({ "upgrade": true }),
    );
    assert_eq!(lost(&third), [""; 0]);
    // A plan that has no retention of its own is not given one: Azure would refuse it.
    let table = &find(&again.resources, INCIDENTS).body["properties"];
    assert_eq!(table["retentionInDays"], Value::Null);
}

/// Which of them are lost otherwise: the test above can fail.
#[test]
fn without_saying_that_it_is_an_upgrade_all_is_as_in_a_first_deployment_but_for_settings() {
    let there = customised(&deployed(&json!({})));
    let lost = lost(&over(&there, &template(), &json!({})));
    let others = choices()
        .into_iter()
        .filter(|(which, ..)| *which != SETTINGS);
    let mut expected: Vec<String> = others
        .map(|(which, member, _)| format!("{which}{member}"))
        .collect();
    expected.extend([DETECTIONS, RULE].map(|which| format!("{which}: its own column")));
    assert_eq!(lost, expected);
}

#[test]
fn a_roll_back_puts_nothing_back_either_and_the_newer_columns_stay() {
    let new = deployed(&json!({}));
    let there = customised(&new);
    let mut older = template();
    older["contentVersion"] = json!("0.0.9.0");
    let columns = older["variables"]["columns"]["IntegrationTable_CL"].as_array_mut();
    let newer = columns.unwrap().pop().unwrap();
    let back = over(
        &there,
        &older,
        &json!({ "upgrade": true, "packageUri": "https://contoso.example/older.zip" }),
    );
    assert_eq!(lost(&back), [""; 0]);
    let table = &find(&back.resources, DETECTIONS).body["properties"]["schema"]["columns"];
    let same = table.as_array().unwrap().iter();
    let same = same.filter(|column| column["name"] == newer["name"]);
    assert_eq!(same.count(), 1);
    let package = &find(&back.resources, "/extensions/onedeploy").body["properties"]["packageUri"];
    assert_eq!(package, "https://contoso.example/older.zip");
    // And forward again.
    let again = over(
        &self::there(&back),
        &template(),
        &json!({ "upgrade": true }),
    );
    assert_eq!(lost(&again), [""; 0]);
}

#[test]
fn an_upgrade_of_what_nobody_touched_changes_nothing() {
    for more in [
        json!({}),
        json!({ "privateNetworking": true, "createEndpoint": true }),
    ] {
        let first = deployed(&more);
        let mut again = more.clone();
        again["upgrade"] = json!(true);
        let again = over(&there(&first), &template(), &again);
        let made = |deployed: &Deployed| -> Vec<(String, Value)> {
            deployed
                .resources
                .iter()
                .filter(|one| one.kind != "Microsoft.Resources/deployments")
                .map(|one| (one.id.clone(), one.body["properties"].clone()))
                .collect()
        };
        assert_eq!(made(&again), made(&first));
    }
}

#[test]
fn what_a_parameter_says_wins_over_what_is_there() {
    let there = customised(&deployed(&json!({})));
    let again = over(
        &there,
        &template(),
        &json!({
            "upgrade": true, "tablePlan": "Basic", "everyMinutes": 15, "privateNetworking": true,
            "transformDetections": "source | where 1 == 1", "transformIncidents": "source | where 2 == 2",
            "moreSettings": [{ "name": "STREAMS_AT_ONCE", "value": "8" }],
        }),
    );
    let of = |which: &str| &find(&again.resources, which).body["properties"];
    for table in [DETECTIONS, INCIDENTS] {
        assert_eq!(of(table)["plan"], "Basic");
        assert_eq!(of(table)["retentionInDays"], Value::Null);
    }
    assert_eq!(
        of(RULE)["dataFlows"][0]["transformKql"],
        "source | where 1 == 1"
    );
    assert_eq!(
        of(RULE)["dataFlows"][1]["transformKql"],
        "source | where 2 == 2"
    );
    assert_eq!(of(SETTINGS)["ESET_SCHEDULE"], "0 */15 * * * *");
    assert_eq!(of(SETTINGS)["PUSH_SCHEDULE"], "0 */2 * * * *");
    assert_eq!(of(SETTINGS)["STREAMS_AT_ONCE"], "8");
    let subnet = of(SITE)["virtualNetworkSubnetId"].as_str().unwrap();
    assert!(subnet.ends_with("/subnets/app"), "{subnet}");
    let lake = deployed(&json!({ "tablePlan": "Auxiliary" }));
    // Older versions know no data lake (docs/contracts/sentinel.md, Tables and queries).
    let version = find(&lake.resources, INCIDENTS).body["apiVersion"].as_str();
    assert!(version >= Some("2025-07-01"), "{version:?}");
    assert_eq!(
        find(&lake.resources, INCIDENTS).body["properties"]["plan"],
        "Auxiliary"
    );
}

/// A first deployment that is called an upgrade names what it does not find.
#[test]
fn an_upgrade_of_nothing_is_refused() {
    let error =
        deploy_over(&[], &template(), &parameters(&json!({ "upgrade": true }))).unwrap_err();
    assert!(
        error.contains("-present") && error.contains("was not there before"),
        "{error}"
    );
}
