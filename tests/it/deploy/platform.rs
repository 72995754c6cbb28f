//! Where the tests deploy to, and what Azure adds to a resource that it has made.

use serde_json::{Value, json};

use super::azure::Resource;

pub(super) const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const GROUP: &str = "connector";
pub(super) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(super) const LOCATION: &str = "northeurope";
/// Of another group and another region.
pub(super) const WORKSPACE: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/siem/providers/Microsoft.OperationalInsights/workspaces/sentinel";
pub(super) const WORKSPACE_LOCATION: &str = "westeurope";

/// The retention of a workspace, which its tables have as long as they state none.
const RETENTION: u64 = 90;

/// What Azure knows about a resource once it is there.
pub(super) fn reference(arguments: &[String], resources: &[&Resource]) -> Result<Value, String> {
    let id = &arguments[0];
    let full = arguments.get(2).is_some_and(|word| word == "Full");
    // Azure does not tell upper from lower case in ids.
    if id.eq_ignore_ascii_case(WORKSPACE) && full {
        return Ok(json!({ "location": WORKSPACE_LOCATION }));
    }
    let resource = resources.iter().find(|resource| resource.id == *id);
    let resource = resource.ok_or_else(|| {
        format!("refers to `{id}`, which it does not depend on, and which was not there before")
    })?;
    if full {
        return Ok(resource.body.clone());
    }
    let name = &resource.name;
    let mut state = resource.body["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let known = match resource.kind.as_str() {
        "Microsoft.ManagedIdentity/userAssignedIdentities" => json!({
            "clientId": "44444444-4444-4444-4444-444444444444",
            "principalId": "55555555-5555-5555-5555-555555555555",
        }),
        "Microsoft.Storage/storageAccounts" => json!({
            "primaryEndpoints": { "blob": format!("https://{name}.blob.core.windows.net/") },
        }),
        "Microsoft.KeyVault/vaults" => {
            json!({ "vaultUri": format!("https://{name}.vault.azure.net/") })
        }
        "Microsoft.Insights/components" => {
            json!({ "ConnectionString": "InstrumentationKey=66666666-6666-6666-6666-666666666666" })
        }
        "Microsoft.Insights/dataCollectionRules" => match resource.body["kind"].as_str() {
            Some("Direct") => json!({
                "immutableId": "dcr-0123456789abcdef0123456789abcdef",
                "endpoints": { "logsIngestion": format!("https://{name}.{WORKSPACE_LOCATION}-1.ingest.monitor.azure.com") },
            }),
            _ => json!({ "immutableId": "dcr-0123456789abcdef0123456789abcdef" }),
        },
        "Microsoft.OperationalInsights/workspaces/tables" => {
            let mut known = json!({});
            for name in ["retentionInDays", "totalRetentionInDays"] {
                let stated = state.get(name).filter(|days| !days.is_null());
                known[format!("{name}AsDefault")] = json!(stated.is_none());
                known[name] = stated.cloned().unwrap_or(json!(RETENTION));
            }
            known
        }
        "Microsoft.Insights/dataCollectionEndpoints" => json!({
            "logsIngestion": { "endpoint": format!("https://{name}.{WORKSPACE_LOCATION}-1.ingest.monitor.azure.com") },
        }),
        _ => json!({}),
    };
    state.extend(known.as_object().cloned().unwrap_or_default());
    Ok(Value::Object(state))
}

/// What `list` gives of a resource: app settings are there as soon as the app is.
pub(super) fn list(id: &str, resources: &[&Resource]) -> Result<Value, String> {
    if let Some(found) = resources.iter().find(|resource| resource.id == id) {
        return Ok(json!({ "properties": found.body["properties"] }));
    }
    let app = id.strip_suffix("/config/appsettings");
    if resources.iter().any(|resource| Some(&*resource.id) == app) {
        return Ok(json!({ "properties": {} }));
    }
    Err(format!("lists `{id}`, which it does not depend on"))
}
