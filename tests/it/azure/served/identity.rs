//! The whole program with a managed identity alone: storage, vault and ingestion; and from a laptop
//! with a login of the Azure CLI.

use std::{collections::BTreeMap, fmt::Write, fs, os::unix::fs::PermissionsExt, path::Path};

use rcgen::{CertificateParams, KeyPair};
use sentinel_connector::simulator::Target;
use serde_json::json;

use super::{assert_complete, check, in_azure};
use crate::{
    azurite::Azurite,
    tenant::{Served, Tenant},
};

/// A tenant whose storage account takes access tokens only.
async fn without_keys() -> (Tenant, Azurite) {
    let mut tenant = in_azure().await;
    // Defender has an app registration of its own, which does sign in at Entra.
    tenant.unset("DEFENDER_");
    let folder = tenant.folder.path().to_owned();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let own = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let server = server.self_signed(&own).unwrap().pem();
    fs::write(&certificate, &server).unwrap();
    fs::write(&key, own.serialize_pem()).unwrap();
    let roots = folder.join("ca.pem");
    let simulated = fs::read_to_string(&roots).unwrap();
    fs::write(&roots, format!("{simulated}{server}")).unwrap();

    let azurite = Azurite::with_tokens(&certificate, &key);
    let account = azurite.settings();
    tenant.unset("AzureWebJobsStorage");
    tenant.set("AzureWebJobsStorage__accountName", &account.name);
    tenant.set("AzureWebJobsStorage__tableServiceUri", &account.table_url);
    tenant.set("AzureWebJobsStorage__blobServiceUri", &account.blob_url);
    tenant.set("AzureWebJobsStorage__credential", "managedidentity");
    tenant.unset("AZURE_CLIENT_SECRET");
    tenant.unset("AZURE_CLIENT_ID");
    (tenant, azurite)
}

fn asked(tenant: &Tenant, target: Target) -> Vec<String> {
    let calls = tenant.simulator.calls().into_iter();
    calls
        .filter(|call| call.target == Some(target))
        .map(|call| call.path)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managed_identities_open_storage_vault_and_ingestion() {
    for user_assigned in [false, true] {
        let (mut tenant, _azurite) = without_keys().await;
        let identity = tenant.simulator.options().user_identity.clone();
        if user_assigned {
            tenant.set("AZURE_CLIENT_ID", &identity);
            tenant.set("AzureWebJobsStorage__clientId", &identity);
        }
        tenant.set("WEBSITE_SITE_NAME", "contoso-connector");
        let served = Served::start(&tenant).await;
        assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
        assert_eq!(served.outcomes("SentinelPush").await, ["up-to-date"]);
        assert_complete(&tenant);
        tenant.assert_no_secret(&served.printed());
        assert!(check(&tenant, true).contains("takes rows"));

        assert!(asked(&tenant, Target::EntraToken).is_empty());
        let tokens = asked(&tenant, Target::Identity);
        for resource in ["storage.azure.com", "localhost", "monitor.azure.com"] {
            let asked = tokens.iter().any(|path| path.contains(resource));
            assert!(asked, "{resource}: {tokens:?}");
        }
        let with_id = tokens
            .iter()
            .filter(|path| path.contains(&identity))
            .count();
        assert_eq!(with_id, if user_assigned { tokens.len() } else { 0 });
    }
}

/// A login of the Azure CLI: prints a token for what it is asked for.
fn logged_in(tenant: &Tenant, resources: &[(&str, &str)]) {
    let folder = tenant.folder.path();
    let mut cases = String::new();
    for (at, (pattern, resource)) in resources.iter().enumerate() {
        let file = folder.join(format!("token-{at}.json"));
        let token = json!({
            "accessToken": tenant.simulator.token_for(resource),
            "expires_on": tenant.began.timestamp() + 3600,
            "tokenType": "Bearer",
        });
        fs::write(&file, token.to_string()).unwrap();
        let file = file.display();
        writeln!(cases, "*{pattern}*) cat {file} ;;").unwrap();
    }
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n{cases}*) echo 'ERROR: no such scope' >&2; exit 1 ;;\nesac\n"
    );
    let az = folder.join("bin/az");
    fs::create_dir(az.parent().unwrap()).unwrap();
    fs::write(&az, script).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
}

fn path_with(folder: &Path) -> String {
    format!("{}:/usr/bin:/bin", folder.join("bin").display())
}

/// The recipe of `docs/operate.md`: the app settings in `local.settings.json`, and a login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_looks_after_the_deployed_app_from_a_laptop() {
    let (mut tenant, _azurite) = without_keys().await;
    tenant.set(
        "AzureWebJobsStorage__clientId",
        &tenant.simulator.options().user_identity.clone(),
    );
    tenant.set("FUNCTIONS_WORKER_RUNTIME", "custom");
    // What is deployed has run, and the sink is away since.
    let served = Served::start(&tenant).await;
    assert_eq!(served.outcomes("EsetTimer").await, ["up-to-date"; 3]);
    drop(served);

    // On the laptop there is no platform, and nothing but the app settings and the login.
    tenant.unset("IDENTITY_");
    let host = tenant.settings["KEY_VAULT_URL"].clone();
    let host = host.trim_start_matches("https://vault.").to_owned();
    logged_in(
        &tenant,
        &[
            ("storage.azure.com", "https://storage.azure.com"),
            ("monitor.azure.com", "https://monitor.azure.com"),
            ("localhost", &format!("https://{host}")),
        ],
    );
    let app: BTreeMap<_, _> = std::mem::take(&mut tenant.settings);
    let file = json!({ "IsEncrypted": false, "Values": app });
    fs::write(
        tenant.folder.path().join("local.settings.json"),
        file.to_string(),
    )
    .unwrap();
    let path = path_with(tenant.folder.path());
    tenant.set("PATH", &path);
    let printed = |arguments: &[&str]| {
        let output = tenant.run(arguments);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let shown = printed(&["cursor", "show"]);
    assert!(shown.contains("follows the feed"), "{shown}");
    assert!(printed(&["check"]).contains("takes rows"));
    printed(&["outbox", "list"]);
    printed(&["dead", "list"]);
    assert!(asked(&tenant, Target::EntraToken).is_empty());

    // Paused from the laptop, the deployed app leaves the stream alone.
    printed(&["cursor", "pause", "eset.incidents"]);
    let shown = printed(&["cursor", "show", "eset.incidents"]);
    assert!(shown.contains("is paused since"), "{shown}");
    printed(&["cursor", "resume", "eset.incidents"]);
    let shown = printed(&["cursor", "show", "eset.incidents"]);
    assert!(!shown.contains("is paused"), "{shown}");
}
