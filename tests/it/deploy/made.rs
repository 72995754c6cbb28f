//! What the template makes, by what an operator chooses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use sentinel_connector::{
    config::{SETTINGS, SinkSettings, Source, StorageSettings},
    core::mapping::columns::TABLES,
    pipeline::health,
};
use serde_json::{Value, json};

use super::{
    OF_THE_HOST, as_application,
    azure::{self, Deployed, Resource},
    deployed, load,
    platform::{LOCATION, WORKSPACE, WORKSPACE_LOCATION},
    settings, template, with_defender,
};

/// Where tables or rule differ from the columns of this version and those that the user named.
pub(super) fn wrong_columns(deployed: &Deployed, own: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let tables: Vec<&Resource> = deployed
        .of("Microsoft.OperationalInsights/workspaces/tables")
        .collect();
    let rule = &deployed.one("Microsoft.Insights/dataCollectionRules").body["properties"];
    let flows = rule["dataFlows"].as_array().unwrap();
    for table in TABLES {
        let ours = table.columns().iter();
        let mut columns: Vec<Value> = ours
            .map(|column| json!({ "name": column.name, "type": column.kind.name() }))
            .collect();
        columns.extend(own.as_array().unwrap().iter().cloned());
        let columns = json!(columns);

        let schema = json!({ "name": table.name, "columns": columns });
        let id = format!("{WORKSPACE}/tables/{}", table.name);
        if !tables
            .iter()
            .any(|made| made.id == id && made.body["properties"]["schema"] == schema)
        {
            found.push(format!("the table `{}` is another", table.name));
        }
        let stream = format!("Custom-{}", table.name);
        if rule["streamDeclarations"][&stream]["columns"] != columns {
            found.push(format!("the stream `{stream}` is another"));
        }
        let flow = json!({
            "streams": [stream],
            "destinations": ["workspace"],
            "transformKql": "source",
            "outputStream": stream,
        });
        if !flows.contains(&flow) {
            found.push(format!("`{stream}` does not flow"));
        }
    }
    if tables.len() != TABLES.len() || flows.len() != TABLES.len() {
        found.push("there are other tables or flows".to_owned());
    }
    found
}

#[test]
fn tables_and_rule_have_the_columns_of_this_version_and_those_of_the_user() {
    for own in [json!([]), json!([{ "name": "site", "type": "string" }])] {
        let deployed = deployed(&json!({ "moreColumns": own, "moreIncidentColumns": own }));
        assert_eq!(wrong_columns(&deployed, &own), [""; 0]);
    }
}

#[test]
fn tables_can_be_left_alone() {
    let deployed = deployed(&json!({ "createTables": false }));
    assert_eq!(
        deployed
            .of("Microsoft.OperationalInsights/workspaces/tables")
            .count(),
        0
    );
    assert_eq!(
        deployed
            .of("Microsoft.Insights/dataCollectionRules")
            .count(),
        1
    );
}

#[test]
fn everything_is_where_it_belongs() {
    let deployed = deployed(
        &json!({ "alertEmail": "soc@contoso.example", "createEndpoint": true, "privateNetworking": true }),
    );
    for resource in &deployed.resources {
        let Some(location) = resource.body["location"].as_str() else {
            continue;
        };
        let right = match resource.kind.as_str() {
            "Microsoft.Insights/dataCollectionRules"
            | "Microsoft.Insights/dataCollectionEndpoints"
            | "Microsoft.Insights/scheduledQueryRules" => WORKSPACE_LOCATION,
            "Microsoft.Insights/actionGroups"
            | "Microsoft.Network/privateDnsZones"
            | "Microsoft.Network/privateDnsZones/virtualNetworkLinks" => "global",
            _ => LOCATION,
        };
        assert_eq!(location, right, "{}", resource.id);
    }
}

/// Settings that neither the program nor the host reads.
pub(super) fn unread(settings: &BTreeMap<String, String>) -> Vec<&str> {
    let read = |name: &str| {
        OF_THE_HOST.contains(&name) || SETTINGS.iter().any(|setting| setting.name == name)
    };
    let names = settings.keys().map(String::as_str);
    names.filter(|name| !read(name)).collect()
}

/// Every setting is one that somebody reads, and the program understands them all.
#[test]
fn the_app_settings_are_those_that_the_program_reads() {
    for more in [
        json!({}),
        as_application(),
        with_defender(),
        json!({ "esetLogin": "", "defenderTenantId": "contoso.example" }),
        json!({ "scaleOut": "queue" }),
        json!({ "esetInspect": true, "esetCloudOffice": true, "everyMinutes": 60, "initialHistory": "30d", "createEndpoint": true }),
    ] {
        let deployed = deployed(&more);
        let settings = settings(&deployed);
        assert_eq!(unread(&settings), [""; 0]);
        let loaded = load(&settings).unwrap();
        let pulls =
            |source: fn(&Source) -> bool| loaded.connections.iter().any(|one| source(&one.source));
        assert_eq!(
            pulls(|source| matches!(source, Source::Eset(_))),
            more["esetLogin"] != ""
        );
        let defender = more["defenderTenantId"].is_string();
        assert_eq!(
            pulls(|source| matches!(source, Source::Defender(_))),
            defender
        );
        assert!(matches!(loaded.storage, StorageSettings::Azure(_)));
        let SinkSettings::LogsIngestion { endpoint, .. } = &loaded.sink else {
            panic!("{:?}", loaded.sink)
        };
        assert!(
            endpoint.contains(if more["createEndpoint"] == true {
                "-endpoint."
            } else {
                "-rule."
            }),
            "{endpoint}"
        );
        assert_eq!(
            loaded.identity.client_secret.is_some(),
            more["identity"] == "application"
        );
    }
}

#[test]
fn what_is_checked_is_pulled() {
    let tenant = json!("contoso.example");
    for (more, setting, value) in [
        (json!({}), "ESET_PRODUCTS", "protect"),
        (
            json!({ "esetProtect": false, "esetInspect": true }),
            "ESET_PRODUCTS",
            "inspect",
        ),
        (
            json!({ "esetInspect": true, "esetCloudOffice": true }),
            "ESET_PRODUCTS",
            "protect,inspect,cloud-office",
        ),
        (json!({ "esetLogin": "" }), "ESET_PRODUCTS", ""),
        (json!({}), "DEFENDER_STREAMS", ""),
        (
            json!({ "defenderTenantId": tenant }),
            "DEFENDER_STREAMS",
            "machines,alerts,incidents",
        ),
        (
            json!({ "defenderTenantId": tenant, "defenderAlerts": false, "defenderVulnerabilities": true }),
            "DEFENDER_STREAMS",
            "machines,vulnerabilities,incidents",
        ),
        (
            json!({ "defenderTenantId": tenant, "defenderHuntingTables": "DeviceEvents" }),
            "DEFENDER_HUNTING_TABLES",
            "DeviceEvents",
        ),
        (
            json!({
                "defenderTenantId": tenant, "defenderHuntingTables": "DeviceEvents",
                "defenderMachines": false, "defenderAlerts": false, "defenderIncidents": false,
            }),
            "DEFENDER_STREAMS",
            "none",
        ),
    ] {
        assert_eq!(settings(&deployed(&more))[setting], value);
    }
}

/// The products and streams that the settings name are all on offer.
#[test]
fn everything_that_can_be_pulled_can_be_checked() {
    for (setting, variable) in [
        ("ESET_PRODUCTS", "products"),
        ("DEFENDER_STREAMS", "streams"),
    ] {
        let setting = SETTINGS.iter().find(|one| one.name == setting).unwrap();
        let (_, known) = setting.about.split_once(": ").unwrap();
        let template = template();
        let offered = template["variables"][variable].as_array().unwrap().iter();
        let offered: Vec<&str> = offered.map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(offered, known.split(", ").collect::<Vec<_>>());
    }
}

/// The timers of the function folders whose schedule is not among the settings.
pub(super) fn timers_without_schedule(settings: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path().join("function.json")) else {
            continue;
        };
        let function: Value = serde_json::from_str(&text).unwrap();
        for binding in function["bindings"].as_array().unwrap() {
            let Some(schedule) = binding["schedule"].as_str() else {
                continue;
            };
            let six = |schedule: &String| schedule.split(' ').count() == 6;
            if !settings.get(schedule.trim_matches('%')).is_some_and(six) {
                found.push(schedule.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_timer_has_its_schedule() {
    assert_eq!(
        timers_without_schedule(&settings(&deployed(&json!({})))),
        [""; 0]
    );
    let none = timers_without_schedule(&BTreeMap::new());
    assert!(none.contains(&"%ESET_SCHEDULE%".to_owned()), "{none:?}");
    assert!(none.contains(&"%PUSH_SCHEDULE%".to_owned()), "{none:?}");
}

#[test]
fn further_settings_win() {
    let more = json!([{ "name": "LOG_LEVEL", "value": "debug" }, { "name": "PUSH_SCHEDULE", "value": "0 0 * * * *" }]);
    let settings = settings(&deployed(&json!({ "moreSettings": more })));
    assert_eq!(settings["LOG_LEVEL"], "debug");
    assert_eq!(settings["PUSH_SCHEDULE"], "0 0 * * * *");
}

/// Secrets lie in the vault, and nowhere else.
#[test]
fn secrets_are_in_the_vault_alone() {
    let mut more = as_application();
    for (name, value) in azure::entries(&with_defender()) {
        more[name] = value.clone();
    }
    let deployed = deployed(&more);
    let mut kept = BTreeMap::new();
    for resource in &deployed.resources {
        if resource.kind == "Microsoft.KeyVault/vaults/secrets" {
            let name = resource.name.rsplit('/').next().unwrap();
            kept.insert(name, resource.body["properties"]["value"].as_str().unwrap());
        } else {
            assert!(
                !resource.body.to_string().contains("canary-"),
                "{}",
                resource.id
            );
        }
    }
    assert!(!json!(deployed.outputs).to_string().contains("canary-"));
    let expected = [
        ("azure-client-secret", "canary-secret"),
        ("defender-client-secret", "canary-defender"),
        ("eset-password", "canary-password"),
    ];
    assert_eq!(kept, expected.into());
    // The names are those that the program, and the reference, ask for.
    for (setting, secret) in [
        ("ESET_PASSWORD", "eset-password"),
        ("DEFENDER_CLIENT_SECRET", "defender-client-secret"),
    ] {
        let setting = SETTINGS.iter().find(|one| one.name == setting).unwrap();
        assert!(
            setting.about.ends_with(&format!(" {secret}")),
            "{}",
            setting.about
        );
    }
    assert!(
        settings(&deployed)["AZURE_CLIENT_SECRET"].ends_with(";SecretName=azure-client-secret)")
    );
}

#[test]
fn empty_secrets_keep_those_of_the_vault() {
    let mut more = as_application();
    more["esetPassword"] = json!("");
    more["azureClientSecret"] = json!("");
    let again = deployed(&more);
    assert_eq!(again.of("Microsoft.KeyVault/vaults/secrets").count(), 0);
    // What the app is told does not depend on it.
    assert_eq!(settings(&again), settings(&deployed(&as_application())));
}

/// `(principal, role, resource)` of each role assignment.
fn grants(deployed: &Deployed) -> BTreeSet<(String, String, String)> {
    let roles = template()["variables"]["roles"].clone();
    let grants = deployed
        .of("Microsoft.Authorization/roleAssignments")
        .map(|grant| {
            let properties = &grant.body["properties"];
            let (role, _) = azure::entries(&roles)
                .find(|(_, id)| {
                    properties["roleDefinitionId"]
                        .as_str()
                        .unwrap()
                        .ends_with(id.as_str().unwrap())
                })
                .unwrap();
            let scope = grant.body["scope"]
                .as_str()
                .unwrap()
                .split('/')
                .rev()
                .nth(1)
                .unwrap();
            let principal = properties["principalId"]
                .as_str()
                .unwrap()
                .get(..1)
                .unwrap();
            (principal.to_owned(), role.clone(), scope.to_owned())
        });
    grants.collect()
}

#[test]
fn each_identity_has_the_roles_that_it_needs_and_no_more() {
    let own = |principal: &str, role: &str, scope: &str| {
        (principal.to_owned(), role.to_owned(), scope.to_owned())
    };
    let mut expected = BTreeSet::from([
        own("5", "Storage Blob Data Owner", "storageAccounts"),
        own("5", "Storage Table Data Contributor", "storageAccounts"),
        own("5", "Key Vault Secrets User", "vaults"),
        own("5", "Monitoring Metrics Publisher", "components"),
        own("5", "Monitoring Metrics Publisher", "dataCollectionRules"),
    ]);
    assert_eq!(grants(&deployed(&json!({}))), expected);
    let mut with_queues = expected.clone();
    with_queues.insert(own(
        "5",
        "Storage Queue Data Contributor",
        "storageAccounts",
    ));
    let queued = deployed(&json!({ "scaleOut": "queue" }));
    assert_eq!(grants(&queued), with_queues);
    expected.remove(&own(
        "5",
        "Monitoring Metrics Publisher",
        "dataCollectionRules",
    ));
    expected.insert(own(
        "9",
        "Monitoring Metrics Publisher",
        "dataCollectionRules",
    ));
    expected.insert(own("9", "Key Vault Secrets User", "vaults"));
    assert_eq!(grants(&deployed(&as_application())), expected);
}

/// A redeployment finds its role assignments again; those of two scopes or roles don't meet.
#[test]
fn role_assignments_have_names_of_their_own_that_stay() {
    let names = |deployed: &Deployed| -> Vec<String> {
        deployed
            .of("Microsoft.Authorization/roleAssignments")
            .map(|grant| grant.name.clone())
            .collect()
    };
    let first = names(&deployed(&json!({})));
    assert_eq!(first, names(&deployed(&json!({ "esetPassword": "" }))));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len());
}

/// What the query of the alert finds over rows is tried by `tests/content/scenarios/AppSilent.yaml`.
#[test]
fn silence_is_told_of_each_timer_that_is_switched_on_by_the_name_of_this_app() {
    for (minutes, seconds) in [
        (0, 300),
        (5, 300),
        (10, 600),
        (15, 900),
        (20, 1200),
        (60, 3600),
    ] {
        let mut more = with_defender();
        more["everyMinutes"] = json!(minutes);
        let deployed = deployed(&more);
        let alert = &deployed.one("Microsoft.Insights/scheduledQueryRules").body["properties"];
        assert_eq!(alert["overrideQueryTimeRange"], "P2D");
        assert_eq!(alert["scopes"], json!([WORKSPACE]));
        let criterion = &alert["criteria"]["allOf"][0];
        let query = criterion["query"].as_str().unwrap();
        let app = &deployed.one("Microsoft.Web/sites").name;
        for part in [
            format!("providerName == '{}'", health::PROVIDER),
            format!("streamName == '{}'", health::STREAM),
            format!("tostring(additionalFields.app) == '{app}'"),
            "[\"EsetTimer\", \"DefenderTimer\"]".to_owned(),
            format!("max_of({seconds}.0, min(Period))"),
        ] {
            assert!(query.contains(&part), "no `{part}` in {query}");
        }
        assert!(!query.contains('{'), "{query}");
        let dimensions = criterion["dimensions"].as_array().unwrap().iter();
        let dimensions: Vec<&str> = dimensions
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert_eq!(dimensions, ["App", "Function", "Connection"]);
        assert_eq!(
            (&criterion["operator"], &criterion["threshold"]),
            (&json!("GreaterThan"), &json!(0))
        );
        assert_eq!(alert["actions"]["actionGroups"], json!([]));
        let schedule = settings(&deployed)["ESET_SCHEDULE"].clone();
        let expected = match minutes {
            0 => "0 */5 * * * *".to_owned(),
            60 => "0 0 * * * *".to_owned(),
            _ => format!("0 */{minutes} * * * *"),
        };
        assert_eq!(schedule, expected);
    }
    let deployed = deployed(&json!({ "alertEmail": "soc@contoso.example" }));
    let group = deployed.one("Microsoft.Insights/actionGroups");
    let alert = &deployed.one("Microsoft.Insights/scheduledQueryRules").body["properties"];
    assert_eq!(alert["actions"]["actionGroups"], json!([group.id]));
    let query = alert["criteria"]["allOf"][0]["query"].as_str().unwrap();
    assert!(query.contains("[\"EsetTimer\"]"), "{query}");
}

#[test]
fn the_app_is_what_a_custom_handler_on_flex_consumption_has_to_be() {
    let deployed = deployed(&json!({}));
    assert_eq!(
        deployed.one("Microsoft.Web/serverfarms").body["sku"]["name"],
        "FC1"
    );
    let site = deployed.one("Microsoft.Web/sites");
    let config = &site.body["properties"]["functionAppConfig"];
    assert_eq!(
        config["runtime"],
        json!({ "name": "custom", "version": "1.0" })
    );
    let identity = &deployed
        .one("Microsoft.ManagedIdentity/userAssignedIdentities")
        .id;
    assert_eq!(
        site.body["identity"]["userAssignedIdentities"],
        json!({ identity: {} })
    );
    let storage = &config["deployment"]["storage"];
    assert_eq!(
        storage["authentication"]["userAssignedIdentityResourceId"],
        json!(identity)
    );
    let account = deployed.one("Microsoft.Storage/storageAccounts");
    assert_eq!(account.body["properties"]["allowSharedKeyAccess"], false);
    let container = deployed.one("Microsoft.Storage/storageAccounts/blobServices/containers");
    let container = container.name.rsplit('/').next().unwrap();
    assert_eq!(
        storage["value"],
        format!("https://{}.blob.core.windows.net/{container}", account.name)
    );
    assert!((3..=24).contains(&account.name.len()), "{}", account.name);
    let vault = deployed.one("Microsoft.KeyVault/vaults");
    assert!((3..=24).contains(&vault.name.len()), "{}", vault.name);
    assert_eq!(vault.body["properties"]["enableRbacAuthorization"], true);
    assert_eq!(
        deployed.one("Microsoft.Insights/dataCollectionRules").body["kind"],
        "Direct"
    );
    assert_eq!(
        deployed
            .of("Microsoft.Insights/dataCollectionEndpoints")
            .count(),
        0
    );
    assert_eq!(
        deployed.resources.last().unwrap().kind,
        "Microsoft.Web/sites/extensions"
    );
}

#[test]
fn private_networking_closes_storage_and_vault_and_opens_them_from_inside() {
    let open = deployed(&json!({}));
    assert!(
        open.resources
            .iter()
            .all(|resource| !resource.kind.starts_with("Microsoft.Network/"))
    );
    assert_eq!(
        open.one("Microsoft.Web/sites").body["properties"]["virtualNetworkSubnetId"],
        Value::Null
    );
    let closed = deployed(&json!({ "privateNetworking": true }));
    let mut reached = BTreeMap::new();
    for endpoint in closed.of("Microsoft.Network/privateEndpoints") {
        let connection =
            &endpoint.body["properties"]["privateLinkServiceConnections"][0]["properties"];
        let group = connection["groupIds"][0].as_str().unwrap().to_owned();
        reached.insert(
            group,
            connection["privateLinkServiceId"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let (account, vault) = (
        closed.one("Microsoft.Storage/storageAccounts"),
        closed.one("Microsoft.KeyVault/vaults"),
    );
    for (group, to) in [
        ("blob", account),
        ("queue", account),
        ("table", account),
        ("vault", vault),
    ] {
        assert_eq!(reached.remove(group).as_ref(), Some(&to.id), "{group}");
        assert_eq!(to.body["properties"]["publicNetworkAccess"], "Disabled");
    }
    assert!(reached.is_empty(), "{reached:?}");
    let zones: BTreeSet<&str> = closed
        .of("Microsoft.Network/privateDnsZones")
        .map(|zone| zone.name.as_str())
        .collect();
    let expected = [
        "privatelink.blob.core.windows.net",
        "privatelink.queue.core.windows.net",
        "privatelink.table.core.windows.net",
        "privatelink.vaultcore.azure.net",
    ];
    assert_eq!(zones, expected.into());
    let subnet =
        closed.one("Microsoft.Web/sites").body["properties"]["virtualNetworkSubnetId"].clone();
    assert!(
        subnet.as_str().unwrap().ends_with("/subnets/app"),
        "{subnet}"
    );
}

/// The bundle costs a start of the host some seconds, and a queue trigger without it is an error in the log.
#[test]
fn the_worker_has_the_extension_bundle_where_it_works_and_is_disabled_elsewhere() {
    let bundle = "AzureFunctionsJobHost__extensionBundle__id";
    let disabled = "AzureWebJobs_PullWorker_Disabled";
    let off = settings(&deployed(&json!({})));
    assert_eq!(off["SCALE_OUT"], "off");
    assert_eq!(off[disabled], "true");
    assert_eq!(
        off.keys().find(|name| name.contains("extensionBundle")),
        None
    );
    assert!(!load(&off).unwrap().run.scale_out);
    let on = settings(&deployed(&json!({ "scaleOut": "queue" })));
    assert_eq!(on.get(disabled), None);
    assert_eq!(on[bundle], "Microsoft.Azure.Functions.ExtensionBundle");
    assert_eq!(
        on["AzureFunctionsJobHost__extensionBundle__version"],
        "[4.*, 5.0.0)"
    );
    assert!(load(&on).unwrap().run.scale_out);
}
