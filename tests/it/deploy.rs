//! What is deployed to Azure: the template, the portal form, and what the program makes of them.

use std::{collections::BTreeMap, fs, path::Path};

use sentinel_connector::config::{Environment, Mode, Settings};
use serde_json::{Value, json};

mod azure;
mod broken;
mod expression;
mod form;
mod functions;
mod made;
mod platform;
mod standard;
mod template;
mod upgrade;

use azure::{Deployed, deploy};
use platform::WORKSPACE;

/// Settings that only the Functions host reads.
const OF_THE_HOST: &[&str] = &[
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureFunctionsJobHost__extensionBundle__id",
    "AzureFunctionsJobHost__extensionBundle__version",
    "AzureWebJobs_PullWorker_Disabled",
    "FUNCTIONS_EXTENSION_VERSION",
];

fn json_file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn template() -> Value {
    json_file("azuredeploy.json")
}

fn form() -> Value {
    json_file("createUiDefinition.json")
}

fn versions() -> BTreeMap<String, Vec<String>> {
    let known = json_file("tests/deploy/api-versions.json")["known"].take();
    serde_json::from_value(known).unwrap()
}

/// What an operator has to give, with `more`.
fn parameters(more: &Value) -> Value {
    let mut parameters = json!({
        "workspaceResourceId": WORKSPACE,
        "esetRegion": "eu",
        "esetLogin": "api@contoso.example",
        "esetPassword": "canary-password",
    });
    for (name, value) in azure::entries(more) {
        parameters[name] = value.clone();
    }
    parameters
}

/// The template deployed with what an operator has to give, and `more`.
fn deployed(more: &Value) -> Deployed {
    deploy(&template(), &parameters(more)).unwrap()
}

fn as_application() -> Value {
    json!({
        "identity": "application",
        "azureTenantId": "77777777-7777-7777-7777-777777777777",
        "azureClientId": "88888888-8888-8888-8888-888888888888",
        "azureObjectId": "99999999-9999-9999-9999-999999999999",
        "azureClientSecret": "canary-secret",
    })
}

fn with_defender() -> Value {
    json!({
        "defenderTenantId": "77777777-7777-7777-7777-777777777777",
        "defenderClientId": "88888888-8888-8888-8888-888888888888",
        "defenderClientSecret": "canary-defender",
    })
}

fn settings(deployed: &Deployed) -> BTreeMap<String, String> {
    let settings = deployed.one("Microsoft.Web/sites/config").body["properties"].clone();
    serde_json::from_value(settings).unwrap()
}

/// What the program makes of the settings, when the platform gives them to it.
fn load(settings: &BTreeMap<String, String>) -> Result<Settings, String> {
    let platform = [
        ("WEBSITE_SITE_NAME", "connector"),
        ("IDENTITY_ENDPOINT", "http://169.254.255.2:8081/msi/token"),
        ("IDENTITY_HEADER", "header"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "7071"),
    ];
    let platform = platform.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // The platform puts the secret where the reference stands.
    let settings = settings.iter().map(|(name, value)| match value.as_str() {
        reference if reference.starts_with("@Microsoft.KeyVault(") => {
            (name.clone(), "canary-secret".to_owned())
        }
        _ => (name.clone(), value.clone()),
    });
    let environment: Environment = settings.chain(platform).collect();
    let loaded =
        Settings::load(&environment, Mode::Host).map_err(|problems| problems.to_string())?;
    let strange: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    if strange.is_empty() {
        return Ok(loaded);
    }
    Err(strange.join("; "))
}

#[test]
fn the_template_keeps_every_rule() {
    let found = template::findings(&template(), &versions());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_form_keeps_every_rule() {
    let found = form::findings(&form(), &template());
    assert!(found.is_empty(), "{found:#?}");
}

/// The package is that of this version, until somebody asks for another.
#[test]
fn the_package_is_pinned() {
    let uri = |more: &Value| {
        deployed(more).one("Microsoft.Web/sites/extensions").body["properties"]["packageUri"]
            .clone()
    };
    let pinned = uri(&json!({}));
    let version = env!("CARGO_PKG_VERSION");
    let name = pinned
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        name.starts_with(&format!("sentinel-connector-{version}")),
        "{pinned}"
    );
    assert_eq!(
        uri(&json!({ "packageUri": "https://contoso.example/a.zip" })),
        "https://contoso.example/a.zip"
    );
    assert_eq!(template()["contentVersion"], format!("{version}.0"));
}
