//! Entra: client credentials for a bearer token that names its audience and its app. What the app
//! may do is looked up when the token is used.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Inner,
    answer::{Answer, Incoming, field},
    dice::hash_text,
    options::{FederatedCredential, issuer},
    seal::{Use, open, seal},
};

const LIFETIME: i64 = 3599;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    /// The app registration that writes to Azure.
    Main = 1,
    /// The app registration that reads from Microsoft Defender.
    Defender,
    /// A managed identity.
    Identity,
}

impl App {
    fn of(word: u64) -> Self {
        match word & 0xff {
            1 => Self::Main,
            2 => Self::Defender,
            _ => Self::Identity,
        }
    }
}

/// Marks the token of an app that nobody has consented to.
const NO_ROLES: u64 = 1 << 8;

/// A token that is good for what it was used for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) app: App,
    /// Whether the token names the roles of the app.
    pub(crate) has_roles: bool,
}

/// A version of the endpoint for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Inner {
    /// `POST /{tenant}/oauth2/v2.0/token`, or `POST /{tenant}/oauth2/token`.
    pub(crate) fn entra_token(
        &self,
        tenant: &str,
        version: Version,
        incoming: &Incoming,
        has_roles: bool,
    ) -> Answer {
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
        let client_id = field(&form, "client_id");
        let app = if client_id == self.options.client_id {
            App::Main
        } else if client_id == self.options.defender.client_id {
            App::Defender
        } else {
            let text = "Application was not found.";
            return bad("unauthorized_client", 700_016, text);
        };
        if let Err((code, text)) = self.proves(app, &form, tenant) {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_client", code, text);
        }
        let audience = match version {
            Version::V1 => Some(field(&form, "resource")).filter(|resource| !resource.is_empty()),
            Version::V2 => field(&form, "scope").strip_suffix("/.default"),
        };
        let Some(audience) = audience else {
            return bad("invalid_scope", 1_002_012, "The scope is not valid.");
        };
        let lifetime = i64::from(self.options.defender.token_lifetime);
        let lifetime = if app == App::Defender {
            lifetime
        } else {
            LIFETIME
        };
        let expiry = self.clock.now().timestamp() + lifetime;
        let token = self.bearer(app, client_id, audience, expiry, has_roles);
        Answer::ok(match version {
            Version::V2 => json!({
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": token,
            }),
            // It writes its numbers as text.
            Version::V1 => json!({
                "token_type": "Bearer",
                "expires_in": lifetime.to_string(),
                "ext_expires_in": lifetime.to_string(),
                "expires_on": expiry.to_string(),
                "not_before": (expiry - lifetime - 300).to_string(),
                "resource": audience,
                "access_token": token,
            }),
        })
    }

    /// `GET /{tenant}/v2.0/.well-known/openid-configuration`, or that of v1: where Microsoft's
    /// libraries look up the endpoint for tokens. Only what is served here is listed, and the
    /// endpoint for people, without which they take the whole answer for broken.
    pub(crate) fn openid(&self, tenant: &str, version: Version, incoming: &Incoming) -> Answer {
        if tenant != self.options.tenant_id {
            let text = "Tenant not found.";
            return refuse(StatusCode::BAD_REQUEST, "invalid_tenant", 90_002, text);
        }
        let base = format!("{}/{tenant}", incoming.origin);
        let (oauth, issuer) = match version {
            Version::V1 => ("oauth2", format!("https://sts.windows.net/{tenant}/")),
            Version::V2 => ("oauth2/v2.0", format!("{base}/v2.0")),
        };
        Answer::ok(json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/{oauth}/authorize"),
            "token_endpoint": format!("{base}/{oauth}/token"),
            "token_endpoint_auth_methods_supported":
                ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }))
    }

    /// Whether the form holds the app's secret, or an assertion of its certificate. The assertion's
    /// signature is taken for good.
    fn proves(
        &self,
        app: App,
        form: &[(String, String)],
        tenant: &str,
    ) -> Result<(), (u32, &'static str)> {
        let now = self.clock.now();
        let options = &self.options;
        let (client_id, client_secret, certificate) = match app {
            App::Defender => {
                let own = &options.defender;
                (&own.client_id, &own.client_secret, &own.certificate)
            }
            _ => (
                &options.client_id,
                &options.client_secret,
                &options.certificate,
            ),
        };
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
            if head.get("x5t#S256").is_none() {
                return self.trusts(app, assertion, &claims);
            }
            let known = certificate.as_deref();
            if known.is_none() || head["x5t#S256"].as_str() != known || head["alg"] != "PS256" {
                return Err((
                    700_027,
                    "The certificate is not registered on the application.",
                ));
            }
            let audience = claims["aud"].as_str().unwrap_or_default();
            let own = |claim: &str| claims[claim] == **client_id;
            let time = |claim: &str| claims[claim].as_i64().unwrap_or_default();
            let to = |path: &str| audience.ends_with(&format!("/{tenant}/oauth2/{path}"));
            let ours = (to("v2.0/token") || to("token")) && own("iss") && own("sub");
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
        if secret != client_secret {
            let text = "Invalid client secret provided. Ensure the secret being sent in the \
                        request is the client secret value, not the client secret ID.";
            return Err((7_000_215, text));
        }
        Ok(())
    }

    /// Whether the app has a federated credential for the managed identity whose token this is.
    fn trusts(&self, app: App, assertion: &str, claims: &Value) -> Result<(), (u32, &'static str)> {
        let seal = assertion.rsplit('.').next().unwrap_or_default();
        let Some([expiry, audience, _, bearer]) = open(self.options.seed, Use::Entra, seal) else {
            let text = "Assertion failed signature validation.";
            return Err((50_013, text));
        };
        if expiry.cast_signed() <= self.clock.now().timestamp() {
            return Err((700_024, "The assertion is not within its valid time range."));
        }
        let federated = self.options.defender.federated.as_ref();
        let federated = federated.filter(|_| app == App::Defender);
        let own = |claim: &str, of: fn(&FederatedCredential) -> &String| {
            federated.is_some_and(|federated| claims[claim] == **of(federated))
        };
        if !own("iss", |federated| &federated.issuer) {
            let text =
                "No matching federated identity record found for presented assertion issuer.";
            return Err((700_211, text));
        }
        if App::of(bearer) != App::Identity || !own("sub", |federated| &federated.subject) {
            let text =
                "No matching federated identity record found for presented assertion subject.";
            return Err((700_213, text));
        }
        if federated.is_none_or(|federated| audience_hash(&federated.audience) != audience) {
            let text =
                "No matching federated identity record found for presented assertion audience.";
            return Err((700_212, text));
        }
        Ok(())
    }

    /// A token for `audience`, another one each time: a JWT as Entra's are, so that others (the
    /// storage emulator) can read it, with the seal in place of the signature.
    pub(crate) fn bearer(
        &self,
        app: App,
        subject: &str,
        audience: &str,
        expiry: i64,
        has_roles: bool,
    ) -> String {
        let serial = self.tokens.fetch_add(1, Ordering::Relaxed);
        let roles = if has_roles { 0 } else { NO_ROLES };
        let words = [
            expiry.cast_unsigned(),
            audience_hash(audience),
            serial,
            app as u64 | roles,
        ];
        let now = self.clock.now().timestamp();
        let head = json!({"alg": "RS256", "typ": "JWT"});
        let mut claims = json!({
            "aud": audience,
            "iss": if audience.starts_with("api://AzureADTokenExchange") {
                issuer(&self.options.tenant_id)
            } else {
                format!("https://sts.windows.net/{}/", self.options.tenant_id)
            },
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": expiry,
        });
        let granted = has_roles && app != App::Main;
        if let Some(held) = roles_of(audience, &self.options.defender.roles).filter(|_| granted) {
            claims["roles"] = held;
        }
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!(
            "{head}.{claims}.{}",
            seal(self.options.seed, Use::Entra, &words)
        )
    }

    /// Whether the bearer may speak to one of `audiences`: 401 without a living token of ours, 403
    /// with one for something else.
    pub(crate) fn entra_allows(
        &self,
        incoming: &Incoming,
        audiences: &[&str],
    ) -> Result<Caller, StatusCode> {
        let words = incoming
            .bearer()
            .and_then(|token| token.rsplit('.').next())
            .and_then(|token| open(self.options.seed, Use::Entra, token));
        let Some([expiry, given, serial, app]) = words else {
            return Err(StatusCode::UNAUTHORIZED);
        };
        if expiry.cast_signed() <= self.clock.now().timestamp()
            || serial < self.oldest_token.load(Ordering::Relaxed)
        {
            return Err(StatusCode::UNAUTHORIZED);
        }
        if !audiences
            .iter()
            .any(|audience| audience_hash(audience) == given)
        {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(Caller {
            app: App::of(app),
            has_roles: app & NO_ROLES == 0,
        })
    }

    /// Every token that was issued so far is dead.
    pub(crate) fn kill_tokens(&self) {
        let issued = self.tokens.load(Ordering::Relaxed);
        self.oldest_token.store(issued, Ordering::Relaxed);
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

/// The roles that the app holds at one of the APIs that read Defender.
fn roles_of(audience: &str, roles: &BTreeSet<String>) -> Option<Value> {
    let audiences = ["graph.", "api.security.microsoft.com", "securitycenter"];
    let api = audiences.iter().position(|part| audience.contains(part))?;
    let api_of = |role: &str| match role {
        _ if role.starts_with("Security") || role.starts_with("ThreatHunting") => 0,
        _ if role.starts_with("Incident.") => 1,
        _ => 2,
    };
    let roles: Vec<&String> = roles.iter().filter(|role| api_of(role) == api).collect();
    Some(json!(roles))
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
