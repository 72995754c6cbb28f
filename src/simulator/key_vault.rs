//! Key Vault: it challenges whoever comes without a token, then gives out its secrets.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Inner,
    answer::{Answer, Incoming},
    sync::lock,
};

impl Inner {
    /// `GET /secrets/{name}`.
    pub(crate) fn vault_secret(&self, name: &str, incoming: &Incoming) -> Answer {
        // `contoso.vault.azure.net` is a vault of `vault.azure.net`.
        // The port belongs to it: Microsoft's Python client holds both against each other.
        let authority = incoming.authority();
        let service = authority.split_once('.').map_or("", |(_, service)| service);
        let resource = format!("https://{service}");
        match self.entra_allows(incoming, &[&resource]) {
            Ok(_) => {}
            Err(StatusCode::FORBIDDEN) => {
                let text = "Caller is not authorized to perform action on resource.";
                return refuse(StatusCode::FORBIDDEN, "Forbidden", text);
            }
            Err(status) => {
                let tenant = &self.options.tenant_id;
                let challenge = format!(
                    "Bearer authorization=\"https://login.microsoftonline.com/{tenant}\", \
                     resource=\"{resource}\""
                );
                let text = "AKV10000: Request is missing a Bearer or PoP token.";
                return refuse(status, "Unauthorized", text)
                    .with_header("www-authenticate", challenge);
            }
        }
        if incoming.parameter("api-version").is_none() {
            let text = "The api-version is missing.";
            return refuse(StatusCode::BAD_REQUEST, "BadParameter", text);
        }
        let Some(secret) = lock(&self.vault).get(name).cloned() else {
            let text = format!("A secret with (name/id) {name} was not found in this key vault.");
            return refuse(StatusCode::NOT_FOUND, "SecretNotFound", &text);
        };
        let created = self.options.start.timestamp();
        let expires = secret.expires.as_ref().map(DateTime::<Utc>::timestamp);
        let mut attributes = json!({"enabled": true, "created": created, "updated": created});
        if let Some(expires) = expires {
            attributes["exp"] = Value::from(expires);
        }
        Answer::ok(json!({
            "value": secret.value,
            "id": format!("https://{authority}/secrets/{name}/1"),
            "attributes": attributes,
        }))
    }
}

fn refuse(status: StatusCode, code: &str, text: &str) -> Answer {
    Answer::json(status, json!({"error": {"code": code, "message": text}}))
}
