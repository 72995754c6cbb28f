//! The platform's endpoint for the managed identities of an app
//! (`learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference`).

use axum::http::StatusCode;
use serde_json::json;

use super::{
    Inner,
    answer::{Answer, Incoming},
    entra::App,
};

/// Where it answers.
pub(super) const PATH: &str = "/msi/token";

const LIFETIME: i64 = 24 * 3600;

impl Inner {
    /// `GET /msi/token?api-version=…&resource=…[&client_id=…]`.
    pub(crate) fn identity_token(&self, incoming: &Incoming) -> Answer {
        let refuse = |status: StatusCode, text: &str| {
            let body = json!({"statusCode": status.as_u16(), "message": text});
            Answer::json(status, body)
        };
        if incoming.header("x-identity-header") != Some(&self.options.identity_header) {
            return refuse(StatusCode::UNAUTHORIZED, "The header is not valid.");
        }
        let bad = |text| refuse(StatusCode::BAD_REQUEST, text);
        if incoming.parameter("api-version") != Some("2019-08-01") {
            return bad("The api-version is missing or unknown.");
        }
        let client_id = incoming.parameter("clientId");
        let (assigned, subject) = match client_id {
            Some(client_id) => (
                client_id == self.options.user_identity,
                self.options.user_identity_object.as_str(),
            ),
            None => (self.options.system_identity, "system-assigned"),
        };
        if !assigned {
            return bad("No Managed Identity found for specified ClientId/ResourceId/PrincipalId.");
        }
        let Some(resource) = incoming.parameter("resource") else {
            return bad("The resource is missing.");
        };
        let expiry = self.clock.now().timestamp() + LIFETIME;
        Answer::ok(json!({
            "access_token": self.bearer(App::Identity, subject, resource, expiry, true),
            "expires_on": expiry.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }))
    }
}
