//! Each rule of the template and of the form finds what breaks it.

use serde_json::{Value, json};

use super::{
    azure::deploy, deployed, form, form::findings as form_findings, made, parameters, template,
    template::findings as template_findings, versions,
};

/// The template with a change is found fault with, in these words.
fn template_fails(words: &str, change: impl FnOnce(&mut Value)) {
    let mut broken = template();
    change(&mut broken);
    assert_ne!(broken, template(), "the change changes nothing");
    let found = template_findings(&broken, &versions());
    assert!(
        found.iter().any(|finding| finding.contains(words)),
        "no `{words}` in {found:#?}"
    );
}

/// The same of the form.
fn form_fails(words: &str, change: impl FnOnce(&mut Value)) {
    let mut broken = form();
    change(&mut broken);
    assert_ne!(broken, form(), "the change changes nothing");
    let found = form_findings(&broken, &template());
    assert!(
        found.iter().any(|finding| finding.contains(words)),
        "no `{words}` in {found:#?}"
    );
}

/// The template with a change can't be deployed, for this reason.
fn deployment_fails(words: &str, change: impl FnOnce(&mut Value)) {
    let mut broken = template();
    change(&mut broken);
    assert_ne!(broken, template(), "the change changes nothing");
    let error = deploy(&broken, &parameters(&json!({}))).unwrap_err();
    assert!(error.contains(words), "no `{words}` in {error}");
}

/// The first resource of this type, nested ones included.
fn resource<'a>(template: &'a mut Value, kind: &str) -> &'a mut Value {
    fn find<'a>(template: &'a mut Value, kind: &str) -> Option<&'a mut Value> {
        template["resources"]
            .as_array_mut()?
            .iter_mut()
            .find_map(|resource| {
                if resource["type"] == kind {
                    return Some(resource);
                }
                let nested = resource.get_mut("properties")?.get_mut("template")?;
                find(nested, kind)
            })
    }
    find(template, kind).unwrap()
}

/// The deployment whose name ends so.
fn nested<'a>(template: &'a mut Value, end: &str) -> &'a mut Value {
    let resources = template["resources"].as_array_mut().unwrap().iter_mut();
    let mut named = resources.filter(|resource| resource["name"].as_str().unwrap().ends_with(end));
    named.next().unwrap()
}

fn remove(value: &mut Value, member: &str) {
    value.as_object_mut().unwrap().remove(member);
}

#[test]
fn expressions() {
    template_fails("`)` is missing", |t| {
        t["variables"]["planName"] = json!("[concat(parameters('name')]");
    });
    template_fails("`conkat` is not known", |t| {
        t["variables"]["planName"] = json!("[conkat(parameters('name'))]");
    });
    template_fails("`if` takes 3 to 3", |t| {
        t["variables"]["planName"] = json!("[if(true(), parameters('name'))]");
    });
    template_fails("there is no `nam` among the parameters", |t| {
        t["variables"]["planName"] = json!("[parameters('nam')]");
    });
    template_fails("there is no `uniq` among the variables", |t| {
        t["variables"]["planName"] = json!("[variables('uniq')]");
    });
    // A nested template sees its own parameters alone.
    template_fails("there is no `createTables` among the parameters", |t| {
        resource(t, "Microsoft.Insights/actionGroups")["condition"] =
            json!("[parameters('createTables')]");
    });
}

#[test]
fn what_is_not_used() {
    template_fails("`spare` among the parameters is not used", |t| {
        t["parameters"]["spare"] = json!({ "type": "string" });
    });
    template_fails("`spare` among the variables is not used", |t| {
        t["variables"]["spare"] = json!("x");
    });
    template_fails("`spare` among the parameters is not used", |t| {
        nested(t, "'-tables')]")["properties"]["template"]["parameters"]["spare"] =
            json!({ "type": "string" });
    });
}

#[test]
fn secrets() {
    template_fails("`esetPassword` sounds secret", |t| {
        t["parameters"]["esetPassword"]["type"] = json!("string");
    });
    template_fails("the secret `esetPassword` has a value", |t| {
        t["parameters"]["esetPassword"]["defaultValue"] = json!("hunter2");
    });
    template_fails(
        "the secret `esetPassword` belongs in the vault alone",
        |t| {
            nested(t, "'-settings')]")["properties"]["parameters"]["settings"]["value"]["ESET_PASSWORD"] =
                json!("[parameters('esetPassword')]");
        },
    );
    template_fails(
        "the secret `azureClientSecret` belongs in the vault alone",
        |t| t["variables"]["planName"] = json!("[concat('a', parameters('azureClientSecret'))]"),
    );
    template_fails("is a secret in an output", |t| {
        t["outputs"]["appName"]["value"] =
            json!("[listKeys(variables('storageId'), '2023-05-01').keys[0].value]");
    });
    template_fails("is a secret in an output", |t| {
        t["outputs"]["appName"]["value"] = json!(
            "[reference(resourceId('Microsoft.Insights/components', variables('insightsName')), '2020-02-02').ConnectionString]"
        );
    });
}

#[test]
fn lengths() {
    template_fails("`esetPassword` has no `maxLength`", |t| {
        remove(&mut t["parameters"]["esetPassword"], "maxLength");
    });
    let long = json!({ "defenderClientId": "0".repeat(37) });
    let error = deploy(&template(), &parameters(&long)).unwrap_err();
    assert!(error.contains("`defenderClientId` is too long"), "{error}");
}

#[test]
fn places_and_addresses() {
    template_fails("the location is \"westeurope\"", |t| {
        resource(t, "Microsoft.Web/sites")["location"] = json!("westeurope");
    });
    template_fails("the location is \"westeurope\"", |t| {
        resource(t, "Microsoft.Insights/dataCollectionRules")["location"] = json!("westeurope");
    });
    template_fails("not `global`", |t| {
        resource(t, "Microsoft.Insights/actionGroups")["location"] =
            json!("[parameters('location')]");
    });
    template_fails("is a fixed address", |t| {
        nested(t, "'-settings')]")["properties"]["parameters"]["settings"]["value"]["KEY_VAULT_URL"] =
            json!("[concat('https://', variables('vaultName'), '.vault.azure.net')]");
    });
}

#[test]
fn types_and_versions() {
    template_fails("nothing here is a `Microsoft.Web/site`", |t| {
        t["variables"]["storageId"] =
            json!("[resourceId('Microsoft.Web/site', variables('storageName'))]");
    });
    template_fails("without a type", |t| {
        t["variables"]["storageId"] =
            json!("[resourceId(variables('storageName'), variables('storageName'))]");
    });
    template_fails("the API version `2023-11-31`", |t| {
        resource(t, "Microsoft.Web/sites")["apiVersion"] = json!("2023-11-31");
    });
    template_fails("the API version `2022-10-01-preview`", |t| {
        resource(t, "Microsoft.OperationalInsights/workspaces/tables")["apiVersion"] =
            json!("2022-10-01-preview");
    });
    template_fails("`reference` without a known API version", |t| {
        t["outputs"]["identityPrincipalId"]["value"] =
            json!("[reference(variables('identityId')).principalId]");
    });
    deployment_fails("has 2 names, not 1", |t| {
        resource(t, "Microsoft.KeyVault/vaults/secrets")["name"] =
            json!("[variables('vaultName')]");
    });
}

#[test]
fn role_assignments() {
    let kind = "Microsoft.Authorization/roleAssignments";
    template_fails("is not a guid", |t| {
        resource(t, kind)["name"] = json!("[guid(parameters('grants')[copyIndex()].role)]");
    });
    template_fails("is not a guid", |t| {
        resource(t, kind)["name"] = json!("11111111-1111-1111-1111-111111111111");
    });
    template_fails("`principalType` is missing", |t| {
        remove(&mut resource(t, kind)["properties"], "principalType");
    });
    deployment_fails("does not depend on", |t| {
        nested(t, "'-access')]")["dependsOn"] = json!([]);
    });
    deployment_fails("does not depend on", |t| {
        let vault = json!("[variables('vaultId')]");
        nested(t, "'-access')]")["dependsOn"]
            .as_array_mut()
            .unwrap()
            .retain(|id| *id != vault);
    });
}

#[test]
fn order() {
    deployment_fails("dependsOn names what is not there", |t| {
        resource(t, "Microsoft.KeyVault/vaults/secrets")["dependsOn"] =
            json!(["[resourceId('Microsoft.KeyVault/vaults', 'other')]"]);
    });
    deployment_fails("goes round", |t| {
        resource(t, "Microsoft.Web/serverfarms")["dependsOn"] =
            json!(["[resourceId('Microsoft.Web/sites', variables('appName'))]"]);
    });
    deployment_fails("does not depend on", |t| {
        let site = resource(t, "Microsoft.Web/sites");
        site["dependsOn"].as_array_mut().unwrap().remove(0);
    });
    deployment_fails("which it does not depend on", |t| {
        nested(t, "'-settings')]")["dependsOn"] = json!([]);
    });
    deployment_fails("two resources have the same name", |t| {
        let twin = resource(t, "Microsoft.Web/serverfarms").clone();
        t["resources"].as_array_mut().unwrap().push(twin);
    });
}

#[test]
fn parameters_that_are_not_there_or_not_allowed() {
    deployment_fails("`spare` is given and not declared", |t| {
        nested(t, "'-tables')]")["properties"]["parameters"]["spare"] = json!({ "value": 1 });
    });
    deployment_fails("`detectionColumns` is not given", |t| {
        remove(
            &mut nested(t, "'-tables')]")["properties"]["parameters"],
            "detectionColumns",
        );
    });
    let error = deploy(&template(), &parameters(&json!({ "esetRegion": "uk" }))).unwrap_err();
    assert!(error.contains("`esetRegion` may not be"), "{error}");
}

#[test]
fn skips_without_a_reason() {
    template_fails("is skipped without a reason", |t| {
        resource(t, "Microsoft.Web/sites")["metadata"] = json!({ "checkov": ["CKV_AZURE_17"] });
    });
}

/// Columns that are missing, of another type, or nobody's.
#[test]
fn columns() {
    let whole = "/variables/columns/IntegrationTable_CL";
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut broken = template();
        change(&mut broken);
        made::wrong_columns(
            &deploy(&broken, &parameters(&json!({}))).unwrap(),
            &json!([]),
        )
    };
    let both = [
        "the table `IntegrationTable_CL` is another",
        "the stream `Custom-IntegrationTable_CL` is another",
    ];
    assert_eq!(wrong(&|_| {}), [""; 0]);
    let last = |template: &mut Value| {
        template
            .pointer_mut(whole)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .pop()
    };
    assert_eq!(wrong(&|template| drop(last(template))), both);
    assert_eq!(
        wrong(&|template| template.pointer_mut(whole).unwrap()[3]["type"] = json!("string")),
        both
    );
    assert_eq!(
        wrong(&|template| {
            let rule = resource(template, "Microsoft.Insights/dataCollectionRules");
            rule["properties"]["dataFlows"][1]["transformKql"] = json!("source | take 1");
        }),
        ["`Custom-IntegrationTableIncidents_CL` does not flow"]
    );
    assert_eq!(
        wrong(&|template| {
            let table = resource(template, "Microsoft.OperationalInsights/workspaces/tables");
            table["name"] = json!("[concat(parameters('workspaceName'), '/Other_CL')]");
        }),
        ["the table `IntegrationTable_CL` is another"]
    );
}

/// What is wrong with the app settings is told by the program that reads them.
#[test]
fn settings() {
    let right = super::settings(&deployed(&json!({})));
    for missing in [
        "AzureWebJobsStorage__accountName",
        "DCR_IMMUTABLE_ID",
        "LOGS_INGESTION_ENDPOINT",
        "KEY_VAULT_URL",
        "ESET_LOGIN",
    ] {
        let mut settings = right.clone();
        settings.remove(missing).unwrap();
        assert!(super::load(&settings).is_err(), "{missing}");
    }
    for (name, value) in [
        ("ESET_LOGN", "x"),
        ("ESET_PRODUCTS", "protekt"),
        ("EXTRA_CA_FILE_", "x"),
    ] {
        let mut settings = right.clone();
        settings.insert(name.to_owned(), value.to_owned());
        let error = super::load(&settings).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
    let mut settings = right;
    settings.insert("FUNCTIONS_WORKER_RUNTIME".to_owned(), "custom".to_owned());
    assert_eq!(made::unread(&settings), ["FUNCTIONS_WORKER_RUNTIME"]);
    settings.insert("PUSH_SCHEDULE".to_owned(), "*/5 * * * *".to_owned());
    assert_eq!(
        made::timers_without_schedule(&settings),
        ["%PUSH_SCHEDULE%"]
    );
}

#[test]
fn the_form() {
    let elements = |step: usize, rest: &str| format!("/parameters/steps/{step}/elements/{rest}");
    let output = |name: &str| format!("/parameters/outputs/{name}");
    let login = |rest: &str| elements(0, &format!("2/{rest}"));
    let password = |rest: &str| elements(0, &format!("3/{rest}"));
    let region = |rest: &str| elements(0, &format!("1/{rest}"));
    let validation = |rest: &str| login(&format!("constraints/validations{rest}"));
    for (words, place, value) in [
        ("has no label", login("label"), Value::Null),
        ("has no tooltip", login("toolTip"), Value::Null),
        (
            "does not say what is wrong",
            validation("/0/message"),
            Value::Null,
        ),
        ("is not validated", validation(""), json!([])),
        (
            "whether it is required",
            login("constraints/required"),
            Value::Null,
        ),
        (
            "which is not known",
            login("type"),
            json!("Microsoft.Common.Textbox"),
        ),
        (
            "is not validated",
            password("constraints/regex"),
            Value::Null,
        ),
        (
            "does not say what is wrong",
            password("constraints/validationMessage"),
            Value::Null,
        ),
        (
            "has no label",
            password("label/confirmPassword"),
            Value::Null,
        ),
        (
            "has nothing to choose from",
            region("constraints/allowedValues"),
            json!([]),
        ),
        (
            "a default that is not in its list",
            region("defaultValue"),
            json!("eu"),
        ),
        (
            "is not what the template allows",
            region("constraints/allowedValues/0/value"),
            json!("uk"),
        ),
        ("says nothing", elements(0, "0/options/text"), Value::Null),
        (
            "without a header",
            elements(3, "2/constraints/columns/0/header"),
            Value::Null,
        ),
        (
            "there is no steps('eset').logn",
            output("esetLogin"),
            json!("[steps('eset').logn]"),
        ),
        (
            "there is no basics('nam')",
            output("name"),
            json!("[basics('nam')]"),
        ),
        (
            "`toInt` is not known",
            output("everyMinutes"),
            json!("[toInt(steps('eset').region)]"),
        ),
        ("`)` is missing", output("name"), json!("[basics('name']")),
        (
            "`esetLogin` is not asked for",
            output("esetLogin"),
            Value::Null,
        ),
        (
            "steps('eset').login is asked for and not used",
            output("esetLogin"),
            json!("[basics('name')]"),
        ),
        (
            "is secret in one place only",
            output("esetLogin"),
            json!("[steps('eset').password]"),
        ),
        ("is no expression", output("name"), json!("name")),
    ] {
        form_fails(words, |form| *form.pointer_mut(&place).unwrap() = value);
    }
    form_fails("the output `spare` is no parameter", |form| {
        form["parameters"]["outputs"]["spare"] = json!("[basics('name')]");
    });
}

/// A workspace by its name or its GUID, which portals show first, is answered by a sentence.
#[test]
fn a_workspace_that_is_no_resource_id() {
    for given in [
        "law-sentinel",
        "",
        "4a0c8e0e-1d52-4a36-9d8e-0f4c8d9f2b61",
        "/subscriptions/4a0c8e0e-1d52-4a36-9d8e-0f4c8d9f2b61/resourceGroups/siem",
        "/subscriptions/4a0c8e0e-1d52-4a36-9d8e-0f4c8d9f2b61/resourceGroups/siem/providers/Microsoft.Storage/storageAccounts/law",
    ] {
        let given = json!({ "workspaceResourceId": given });
        let error = deploy(&template(), &parameters(&given)).unwrap_err();
        assert!(
            error.contains(
                "workspaceResourceId is not the resource id of a Log Analytics workspace"
            ),
            "{error}"
        );
    }
    // Azure does not care for upper and lower case, and the portal writes both.
    let lower = deployed(&json!({}));
    let upper = super::WORKSPACE.replace("/resourceGroups/", "/resourcegroups/");
    let upper = deployed(&json!({ "workspaceResourceId": upper }));
    assert_eq!(lower.resources.len(), upper.resources.len());
}
