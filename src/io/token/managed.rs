//! The managed identity of App Service: one request to the platform.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::{
    credential::{GrantedToken, Platform},
    failure,
};
use crate::{
    core::protocol::{request::encode, retry::retry_after},
    error::{Attempt, Error, Result},
    io::http::{Response, Transport},
};

/// The version that App Service speaks.
const API_VERSION: &str = "2019-08-01";

/// From which life on a token is replaced at half of it, as the Azure SDKs do
/// (`refresh_in` of MSAL): what changed since, such as roles, is then in the next one.
const LONG_LIFE: TimeDelta = TimeDelta::hours(2);

pub(super) struct ManagedRequest<'a> {
    pub(super) platform: &'a Platform,
    pub(super) client_id: Option<&'a str>,
    pub(super) scope: &'a str,
}

#[derive(Deserialize)]
struct ManagedAnswer {
    access_token: SecretString,
    #[serde(deserialize_with = "seconds")]
    expires_on: i64,
}

/// The platform writes the number as a text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(i64),
        Text(String),
    }
    match Seconds::deserialize(deserializer)? {
        Seconds::Number(number) => Ok(number),
        Seconds::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl ManagedRequest<'_> {
    pub(super) async fn send(
        &self,
        transport: &dyn Transport,
        asked: DateTime<Utc>,
    ) -> Result<GrantedToken> {
        let failed = |error: Error, status| {
            let attempt = self.platform.attempt();
            error.of(Attempt { status, ..attempt })
        };
        let unreachable = |error| {
            let what = format!("the platform's identity endpoint can't be reached ({error})");
            failed(Error::transient(what), None)
        };
        let response = transport.send(self.request()?).await.map_err(unreachable)?;
        let status = response.status;
        if status != StatusCode::OK {
            let wait = response.header("retry-after");
            let wait = wait.and_then(|value| retry_after(value, asked));
            let error = self.refused(response).await.asking_for(wait);
            return Err(failed(error, Some(status)));
        }
        let body = response.whole_body().await.map_err(unreachable)?;
        // The parser's own text could quote the body, which holds a token.
        let answer: ManagedAnswer = serde_json::from_slice(&body).map_err(|_| {
            let what = "the platform's identity endpoint answered without a token";
            failed(Error::transient(what), Some(status))
        })?;
        let until = DateTime::from_timestamp(answer.expires_on, 0).unwrap_or_default();
        let granted = GrantedToken::until(answer.access_token, until);
        let life = until - asked;
        Ok(if life >= LONG_LIFE {
            GrantedToken {
                renew: asked + life / 2,
                ..granted
            }
        } else {
            granted
        })
    }

    fn request(&self) -> Result<crate::io::http::Request> {
        // A platform's endpoint speaks of resources, which are scopes without their end.
        let resource = self.scope.strip_suffix("/.default").unwrap_or(self.scope);
        let mut url = format!(
            "{}?api-version={API_VERSION}&resource={}",
            self.platform.endpoint,
            encode(resource)
        );
        if let Some(client_id) = self.client_id {
            url.push_str("&client_id=");
            url.push_str(&encode(client_id));
        }
        http::Request::get(url)
            .header("x-identity-header", self.platform.header.expose_secret())
            .body(Bytes::new())
            .map_err(|_| {
                Error::config(
                    "`IDENTITY_ENDPOINT` and `IDENTITY_HEADER` are not what the platform sets: \
                     remove them from the app's settings",
                )
            })
    }

    async fn refused(&self, response: Response) -> Error {
        let status = response.status.as_u16();
        let in_words = match status {
            408 | 429 => None,
            400..500 => of_body(&response.whole_body().await.unwrap_or_default()),
            _ => None,
        };
        if let Some(error) = in_words {
            return error;
        }
        match (status, self.client_id) {
            (400, Some(_)) => Error::config(
                "it is not assigned to this app: assign it under `Identity`, `User assigned`, or \
                 correct the client id",
            ),
            (400, None) => Error::config(
                "this app has none: switch it on under `Identity`, or set `AZURE_CLIENT_ID` to the \
                 client id of a user-assigned identity",
            ),
            (401 | 403, _) => Error::config(format!(
                "the platform's identity endpoint answered {status}: `IDENTITY_HEADER` is not what \
                 the platform sets; remove it from the app's settings and restart the app"
            )),
            (404, _) => Error::config(
                "`IDENTITY_ENDPOINT` is not what the platform sets: remove it from the app's \
                 settings and restart the app",
            ),
            _ => Error::transient(format!(
                "the platform's identity endpoint answered {status}"
            )),
        }
    }
}

/// What Entra said to the platform, which passes it on: it knows the identity, and gives it no token
/// for this.
fn of_body(body: &[u8]) -> Option<Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refused {
        error: serde_json::Value,
        error_description: String,
        message: String,
    }
    let refused: Refused = serde_json::from_slice(body).ok()?;
    let texts = [&refused.error_description, &refused.message];
    let explained = texts.into_iter().find_map(|text| failure::of_words(text));
    explained.or_else(|| {
        let is_of_resource = refused.error == "invalid_resource";
        is_of_resource
            .then(|| failure::of_words("AADSTS500011"))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_refusal_is_explained_by_entras_code_in_its_body() {
        let unknown = r#"{"error":"invalid_resource","error_description":"AADSTS500011: The
            resource principal named canary was not found"}"#
            .replace('\n', " ");
        for (body, kind, words) in [
            (unknown.as_str(), Kind::Config, "does not know the service"),
            (
                r#"{"error":"invalid_resource"}"#,
                Kind::Config,
                "(AADSTS500011)",
            ),
            (
                r#"{"statusCode":400,"message":"AADSTS700016: canary"}"#,
                Kind::Config,
                "no such app",
            ),
            (
                r#"{"error":"x","error_description":"AADSTS123456: canary"}"#,
                Kind::Config,
                "error?code=123456",
            ),
            (
                r#"{"error_description":"AADSTS90033: canary"}"#,
                Kind::Transient,
                "patience",
            ),
        ] {
            let error = of_body(body.as_bytes()).unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            let text = error.to_string();
            assert!(text.contains(words) && !text.contains("canary"), "{text}");
        }
        for other in [
            "",
            "<html>",
            r#"{"statusCode":400,"message":"No Managed Identity found for specified ClientId"}"#,
            r#"{"error":{"code":"invalid_request"}}"#,
        ] {
            assert_eq!(of_body(other.as_bytes()), None, "{other}");
        }
    }
}
