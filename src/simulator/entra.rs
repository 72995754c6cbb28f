//! Entra: client credentials for a bearer token that names its audience.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Inner,
    answer::{Answer, Incoming, field},
    dice::hash_text,
    seal::{Use, open, seal},
};

const LIFETIME: i64 = 3599;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Inner {
    /// `POST /{tenant}/oauth2/v2.0/token`.
    pub(crate) fn entra_token(&self, tenant: &str, incoming: &Incoming) -> Answer {
        let bad = |error, code, text| refuse(StatusCode::BAD_REQUEST, error, code, text);
        let Some(form) = incoming.form() else {
            let text = "The request body must be a form.";
            return bad("invalid_request", 900_144, text);
        };
        if tenant != self.options.tenant_id {
            return bad("invalid_request", 90_002, "Tenant not found.");
        }
        if field(&form, "grant_type") != "client_credentials" {
            return bad("unsupported_grant_type", 70_003, "Unsupported grant type.");
        }
        if field(&form, "client_id") != self.options.client_id {
            let text = "Application was not found.";
            return bad("unauthorized_client", 700_016, text);
        }
        if let Err((code, text)) = self.proves(&form, tenant) {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client", code, text);
        }
        let Some(audience) = field(&form, "scope").strip_suffix("/.default") else {
            return bad("invalid_scope", 1_002_012, "The scope is not valid.");
        };
        let expiry = self.clock.now().timestamp() + LIFETIME;
        Answer::ok(json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": self.bearer(audience, expiry),
        }))
    }

    /// Whether the form holds the app's secret, or an assertion of its certificate. The assertion's
    /// signature is taken for good.
    fn proves(&self, form: &[(String, String)], tenant: &str) -> Result<(), (u32, &'static str)> {
        let now = self.clock.now();
        let secret = field(form, "client_secret");
        if secret.is_empty() {
            if field(form, "client_assertion_type") != ASSERTION_TYPE {
                let text = "The request body must contain client_assertion or client_secret.";
                return Err((7_000_216, text));
            }
            let assertion = field(form, "client_assertion");
            let mut parts = assertion.split('.').map(part);
            let (head, claims) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let known = self.options.certificate.as_deref();
            if known.is_none() || head["x5t#S256"].as_str() != known || head["alg"] != "PS256" {
                return Err((
                    700_027,
                    "The certificate is not registered on the application.",
                ));
            }
            let audience = claims["aud"].as_str().unwrap_or_default();
            let own = |claim: &str| claims[claim] == *self.options.client_id;
            let time = |claim: &str| claims[claim].as_i64().unwrap_or_default();
            let ours = audience.ends_with(&format!("/{tenant}/oauth2/v2.0/token"))
                && own("iss")
                && own("sub");
            let in_time = time("nbf") <= now.timestamp() + 300 && time("exp") > now.timestamp();
            if !(ours && in_time) {
                return Err((700_024, "The assertion is not within its valid time range."));
            }
            return Ok(());
        }
        if self
            .options
            .client_secret_expires
            .is_some_and(|expiry| expiry <= now)
        {
            return Err((7_000_222, "The provided client secret keys are expired."));
        }
        if secret != self.options.client_secret {
            let text = "Invalid client secret provided. Ensure the secret being sent in the \
                        request is the client secret value, not the client secret ID.";
            return Err((7_000_215, text));
        }
        Ok(())
    }

    /// A token for `audience`, another one each time: a JWT as Entra's are, so that others (the
    /// storage emulator) can read it, with the seal in place of the signature.
    pub(crate) fn bearer(&self, audience: &str, expiry: i64) -> String {
        let serial = self.tokens.fetch_add(1, Ordering::Relaxed);
        let words = [expiry.cast_unsigned(), audience_hash(audience), serial];
        let now = self.clock.now().timestamp();
        let head = json!({"alg": "RS256", "typ": "JWT"});
        let claims = json!({
            "aud": audience,
            "iss": format!("https://sts.windows.net/{}/", self.options.tenant_id),
            "iat": now,
            "nbf": now,
            "exp": expiry,
        });
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!(
            "{head}.{claims}.{}",
            seal(self.options.seed, Use::Entra, &words)
        )
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
            .and_then(|token| token.rsplit('.').next())
            .and_then(|token| open(self.options.seed, Use::Entra, token));
        match words {
            Some([expiry, _, _]) if expiry.cast_signed() <= self.clock.now().timestamp() => {
                Err(StatusCode::UNAUTHORIZED)
            }
            Some([_, given, _]) if given == audience_hash(audience) => Ok(()),
            Some(_) => Err(StatusCode::FORBIDDEN),
            None => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

fn refuse(status: StatusCode, error: &str, code: u32, text: &str) -> Answer {
    let body = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text}"),
        "error_codes": [code],
    });
    Answer::json(status, body)
}

/// A part of an assertion.
fn part(text: &str) -> Value {
    let decoded = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    serde_json::from_slice(&decoded).unwrap_or_default()
}

/// Some clients ask for `https://host//.default`.
fn audience_hash(audience: &str) -> u64 {
    hash_text(0, audience.trim_end_matches('/'))
}
