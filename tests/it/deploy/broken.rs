//! Each rule of the template and of the form finds what breaks it.

use serde_json::{Value, json};

use super::{
    azure::deploy, deployed, form, form::findings as form_findings, parameters, template,
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
        t["variables"]["planName"] = json!("[concat(parameters('name')]")
    });
    template_fails("`conkat` is not known", |t| {
        t["variables"]["planName"] = json!("[conkat(parameters('name'))]")
    });
    template_fails("`if` takes 3 to 3", |t| {
        t["variables"]["planName"] = json!("[if(true(), parameters('name'))]")
    });
    template_fails("there is no `nam` among the parameters", |t| {
        t["variables"]["planName"] = json!("[parameters('nam')]")
    });
    template_fails("there is no `uniq` among the variables", |t| {
        t["variables"]["planName"] = json!("[variables('uniq')]")
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
        t["parameters"]["spare"] = json!({ "type": "string" })
    });
    template_fails("`spare` among the variables is not used", |t| {
        t["variables"]["spare"] = json!("x")
    });
    template_fails("`spare` among the parameters is not used", |t| {
        nested(t, "'-tables')]")["properties"]["template"]["parameters"]["spare"] =
            json!({ "type": "string" });
    });
}

#[test]
fn secrets() {
    template_fails("`esetPassword` sounds secret", |t| {
        t["parameters"]["esetPassword"]["type"] = json!("string")
    });
    template_fails("the secret `esetPassword` has a value", |t| {
        t["parameters"]["esetPassword"]["defaultValue"] = json!("hunter2")
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
            json!("[listKeys(variables('storageId'), '2023-05-01').keys[0].value]")
    });
    template_fails("is a secret in an output", |t| {
        t["outputs"]["appName"]["value"] = json!(
            "[reference(resourceId('Microsoft.Insights/components', variables('insightsName')), '2020-02-02').ConnectionString]"
        );
    });
}

#[test]
fn places_and_addresses() {
    template_fails("the location is \"westeurope\"", |t| {
        resource(t, "Microsoft.Web/sites")["location"] = json!("westeurope")
    });
    template_fails("the location is \"westeurope\"", |t| {
        resource(t, "Microsoft.Insights/dataCollectionRules")["location"] = json!("westeurope")
    });
    template_fails("not `global`", |t| {
        resource(t, "Microsoft.Insights/actionGroups")["location"] =
            json!("[parameters('location')]")
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
            json!("[resourceId('Microsoft.Web/site', variables('storageName'))]")
    });
    template_fails("without a type", |t| {
        t["variables"]["storageId"] =
            json!("[resourceId(variables('storageName'), variables('storageName'))]")
    });
    template_fails("the API version `2023-11-31`", |t| {
        resource(t, "Microsoft.Web/sites")["apiVersion"] = json!("2023-11-31")
    });
    template_fails("the API version `2022-10-01-preview`", |t| {
        resource(t, "Microsoft.OperationalInsights/workspaces/tables")["apiVersion"] =
            json!("2022-10-01-preview")
    });
    template_fails("`reference` without a known API version", |t| {
        t["outputs"]["identityPrincipalId"]["value"] =
            json!("[reference(variables('identityId')).principalId]")
    });
    deployment_fails("has 2 names, not 1", |t| {
        resource(t, "Microsoft.KeyVault/vaults/secrets")["name"] = json!("[variables('vaultName')]")
    });
}

#[test]
fn role_assignments() {
    let kind = "Microsoft.Authorization/roleAssignments";
    template_fails("is not a guid", |t| {
        resource(t, kind)["name"] = json!("[guid(parameters('grants')[copyIndex()].role)]")
    });
    template_fails("is not a guid", |t| {
        resource(t, kind)["name"] = json!("11111111-1111-1111-1111-111111111111")
    });
    template_fails("`principalType` is missing", |t| {
        remove(&mut resource(t, kind)["properties"], "principalType")
    });
    deployment_fails("does not depend on", |t| {
        nested(t, "'-access')]")["dependsOn"] = json!([])
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
            json!(["[resourceId('Microsoft.KeyVault/vaults', 'other')]"])
    });
    deployment_fails("goes round", |t| {
        resource(t, "Microsoft.Web/serverfarms")["dependsOn"] =
            json!(["[resourceId('Microsoft.Web/sites', variables('appName'))]"])
    });
    deployment_fails("does not depend on", |t| {
        let site = resource(t, "Microsoft.Web/sites");
        site["dependsOn"].as_array_mut().unwrap().remove(0);
    });
    deployment_fails("which it does not depend on", |t| {
        nested(t, "'-settings')]")["dependsOn"] = json!([])
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
}

#[test]
fn the_form() {
    let at = |form: &'static str| {
        move |v: &mut Value| v.pointer_mut(form).map(Value::take).map(|_| ()).unwrap()
    };
    let login = "/parameters/steps/0/elements/2";
    form_fails("has no label", at("/parameters/steps/0/elements/2/label"));
    form_fails(
        "has no tooltip",
        at("/parameters/steps/0/elements/2/toolTip"),
    );
    form_fails(
        "does not say what is wrong",
        at("/parameters/steps/0/elements/2/constraints/validations/0/message"),
    );
    form_fails("is not validated", |f| {
        f.pointer_mut(login).unwrap()["constraints"]["validations"] = json!([])
    });
    form_fails("whether it is required", |f| {
        remove(
            &mut f.pointer_mut(login).unwrap()["constraints"],
            "required",
        )
    });
    form_fails(
        "is not validated",
        at("/parameters/steps/0/elements/3/constraints/regex"),
    );
    form_fails(
        "does not say what is wrong",
        at("/parameters/steps/0/elements/3/constraints/validationMessage"),
    );
    form_fails(
        "has no label",
        at("/parameters/steps/0/elements/3/label/confirmPassword"),
    );
    form_fails("has nothing to choose from", |f| {
        f["parameters"]["steps"][0]["elements"][1]["constraints"]["allowedValues"] = json!([])
    });
    form_fails("a default that is not in its list", |f| {
        f["parameters"]["steps"][0]["elements"][1]["defaultValue"] = json!("eu")
    });
    form_fails("is not what the template allows", |f| {
        f["parameters"]["steps"][0]["elements"][1]["constraints"]["allowedValues"][0]["value"] =
            json!("uk");
    });
    form_fails(
        "says nothing",
        at("/parameters/steps/0/elements/0/options/text"),
    );
    form_fails("which is not known", |f| {
        f.pointer_mut(login).unwrap()["type"] = json!("Microsoft.Common.Textbox")
    });
    form_fails(
        "without a header",
        at("/parameters/steps/2/elements/2/constraints/columns/0/header"),
    );
    form_fails("there is no steps('eset').logn", |f| {
        f["parameters"]["outputs"]["esetLogin"] = json!("[steps('eset').logn]")
    });
    form_fails("there is no basics('nam')", |f| {
        f["parameters"]["outputs"]["name"] = json!("[basics('nam')]")
    });
    form_fails("`toInt` is not known", |f| {
        f["parameters"]["outputs"]["everyMinutes"] = json!("[toInt(steps('eset').everyMinutes)]")
    });
    form_fails("`)` is missing", |f| {
        f["parameters"]["outputs"]["name"] = json!("[basics('name']")
    });
    form_fails("the output `spare` is no parameter", |f| {
        f["parameters"]["outputs"]["spare"] = json!("[basics('name')]")
    });
    form_fails("`esetLogin` is not asked for", |f| {
        remove(&mut f["parameters"]["outputs"], "esetLogin")
    });
    form_fails("steps('eset').login is asked for and not used", |f| {
        f["parameters"]["outputs"]["esetLogin"] = json!("[basics('name')]")
    });
    form_fails("is secret in one place only", |f| {
        f["parameters"]["outputs"]["esetLogin"] = json!("[steps('eset').password]")
    });
    form_fails("is no expression", |f| {
        f["parameters"]["outputs"]["name"] = json!("name")
    });
}
