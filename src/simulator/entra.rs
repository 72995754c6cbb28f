//! Entra: client credentials for a bearer token that names its audience.

use axum::http::StatusCode;
use serde_json::json;

use super::{
    Inner,
    answer::{Answer, Incoming, field},
    dice::hash_text,
    seal::{Use, open, seal},
};

const LIFETIME: i64 = 3599;

impl Inner {
    /// `POST /{tenant}/oauth2/v2.0/token`.
    pub(crate) fn entra_token(&self, tenant: &str, incoming: &Incoming) -> Answer {
        let refuse = |status, error: &str, text: &str| {
            Answer::json(status, json!({"error": error, "error_description": text}))
        };
        let bad = |error, text| refuse(StatusCode::BAD_REQUEST, error, text);
        let Some(form) = incoming.form() else {
            return bad(
                "invalid_request",
                "AADSTS900144: The request body must be a form.",
            );
        };
        if tenant != self.options.tenant_id {
            return bad("invalid_request", "AADSTS90002: Tenant not found.");
        }
        if field(&form, "grant_type") != "client_credentials" {
            return bad(
                "unsupported_grant_type",
                "AADSTS70003: Unsupported grant type.",
            );
        }
        if field(&form, "client_id") != self.options.client_id {
            return bad(
                "unauthorized_client",
                "AADSTS700016: Application was not found.",
            );
        }
        if field(&form, "client_secret") != self.options.client_secret {
            let text = "AADSTS7000215: Invalid client secret provided. Ensure the secret being \
                        sent in the request is the client secret value, not the client secret ID.";
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client", text);
        }
        let Some(audience) = field(&form, "scope").strip_suffix("/.default") else {
            return bad("invalid_scope", "AADSTS1002012: The scope is not valid.");
        };
        let expiry = self.clock.now().timestamp() + LIFETIME;
        let words = [expiry.cast_unsigned(), audience_hash(audience)];
        Answer::ok(json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": seal(self.options.seed, Use::Entra, &words),
        }))
    }

    /// Whether the bearer may speak to `audience`: 401 without a living token of ours, 403 with
    /// one for something else.
    pub(crate) fn entra_allows(
        &self,
        incoming: &Incoming,
        audience: &str,
    ) -> Result<(), StatusCode> {
        let words = incoming
            .bearer()
            .and_then(|token| open(self.options.seed, Use::Entra, token));
        match words {
            Some([expiry, _]) if expiry.cast_signed() <= self.clock.now().timestamp() => {
                Err(StatusCode::UNAUTHORIZED)
            }
            Some([_, given]) if given == audience_hash(audience) => Ok(()),
            Some(_) => Err(StatusCode::FORBIDDEN),
            None => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

/// Some clients ask for `https://host//.default`.
fn audience_hash(audience: &str) -> u64 {
    hash_text(0, audience.trim_end_matches('/'))
}
