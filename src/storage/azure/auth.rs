//! What makes a request ours: the account's key or an access token.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, header};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::{Error, Result},
    io::{
        retry::Limits,
        token::{Rejected, SharedTokens},
    },
};

/// What access tokens are for, in every cloud
/// (learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory).
pub const SCOPE: &str = "https://storage.azure.com/.default";

/// An account's key.
#[derive(Debug, Clone)]
pub struct SharedKey(hmac::Key);

impl SharedKey {
    /// The key, from its base64.
    pub fn new(key: &str) -> Result<Self> {
        let bytes = STANDARD.decode(key).map_err(|_| {
            Error::config("`AccountKey` in `AzureWebJobsStorage` is not base64: copy it again")
        })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// What signs requests.
#[derive(Clone)]
pub enum Credential {
    /// The account's key.
    SharedKey(SharedKey),
    /// Access tokens of an identity.
    Tokens(SharedTokens),
}

/// Which service a request goes to: each has its own string to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    Blob,
    Queue,
}

/// A request, as far as it is signed.
pub(super) struct Unsigned<'a> {
    pub(super) kind: Kind,
    pub(super) account: &'a str,
    pub(super) method: &'a Method,
    /// The path as it is sent, the emulator's account included.
    pub(super) path: &'a str,
    /// The query, not encoded.
    pub(super) query: &'a [(&'static str, String)],
    /// All headers but `Authorization`.
    pub(super) headers: &'a HeaderMap,
    pub(super) length: usize,
}

/// The `Authorization` of a request.
pub(super) struct Authorization {
    pub(super) value: HeaderValue,
    /// The access token in it.
    pub(super) token: Option<SecretString>,
}

impl Credential {
    /// Signs a request; with another token than the `refused` one.
    pub(super) async fn authorize(
        &self,
        request: &Unsigned<'_>,
        refused: Option<&SecretString>,
        limits: &Limits,
    ) -> Result<Authorization> {
        let (value, token) = match self {
            Self::SharedKey(SharedKey(key)) => {
                let signature = hmac::sign(key, request.string_to_sign().as_bytes());
                let signature = STANDARD.encode(signature);
                let value = format!("SharedKey {}:{signature}", request.account);
                (value, None)
            }
            Self::Tokens(tokens) => {
                let rejected = refused.map(Rejected::Refused);
                let token = tokens.token(SCOPE, rejected, limits).await?;
                (format!("Bearer {}", token.expose_secret()), Some(token))
            }
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| Error::contract("the access token for storage is no header value"))?;
        value.set_sensitive(true);
        Ok(Authorization { value, token })
    }

    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::SharedKey(_))
    }
}

impl Unsigned<'_> {
    /// As of learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key. A header that
    /// is not sent is an empty line.
    fn string_to_sign(&self) -> String {
        let mut text = format!("{}\n", self.method);
        match self.kind {
            Kind::Table => {
                self.line(&mut text, "content-md5");
                self.line(&mut text, header::CONTENT_TYPE.as_str());
                self.line(&mut text, "x-ms-date");
            }
            Kind::Blob | Kind::Queue => {
                self.line(&mut text, header::CONTENT_ENCODING.as_str());
                self.line(&mut text, header::CONTENT_LANGUAGE.as_str());
                if self.length > 0 {
                    text.push_str(&self.length.to_string());
                }
                text.push('\n');
                self.line(&mut text, "content-md5");
                self.line(&mut text, header::CONTENT_TYPE.as_str());
                // The date is in `x-ms-date`, which is signed with the other headers of its kind.
                text.push('\n');
                self.line(&mut text, header::IF_MODIFIED_SINCE.as_str());
                self.line(&mut text, header::IF_MATCH.as_str());
                self.line(&mut text, header::IF_NONE_MATCH.as_str());
                self.line(&mut text, header::IF_UNMODIFIED_SINCE.as_str());
                self.line(&mut text, header::RANGE.as_str());
                self.service_headers(&mut text);
            }
        }
        self.resource(&mut text);
        text
    }

    fn value(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    fn line(&self, text: &mut String, name: &str) {
        text.push_str(self.value(name));
        text.push('\n');
    }

    fn service_headers(&self, text: &mut String) {
        let mut names: Vec<&str> = self
            .headers
            .keys()
            .map(header::HeaderName::as_str)
            .collect();
        names.retain(|name| name.starts_with("x-ms-"));
        names.sort_unstable();
        for name in names {
            text.extend([name, ":", self.value(name).trim(), "\n"]);
        }
    }

    /// With the emulator the account comes twice: once by rule, once as part of the path.
    fn resource(&self, text: &mut String) {
        text.extend(["/", self.account, self.path]);
        if self.kind == Kind::Table {
            return;
        }
        let mut query: Vec<_> = self.query.iter().collect();
        query.sort();
        for (name, value) in query {
            text.extend(["\n", name, ":", value]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(
        kind: Kind,
        headers: &'a HeaderMap,
        query: &'a [(&'static str, String)],
    ) -> Unsigned<'a> {
        Unsigned {
            kind,
            account: "acct",
            method: &Method::PUT,
            path: "/acct/box/name",
            query,
            headers,
            length: 5,
        }
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ms-version", "2023-11-03"),
            ("x-ms-date", "Fri, 02 Jan 2026 03:04:05 GMT"),
            ("x-ms-meta-at", "now"),
            ("content-type", "application/json"),
            ("if-none-match", "*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_string_of_a_blob_has_a_line_for_each_header_that_could_be_there() {
        let query = [
            ("restype", "container".to_owned()),
            ("comp", "list".to_owned()),
        ];
        let text = request(Kind::Blob, &headers(), &query).string_to_sign();
        let expected = "PUT\n\n\n5\n\napplication/json\n\n\n\n*\n\n\n\
             x-ms-date:Fri, 02 Jan 2026 03:04:05 GMT\nx-ms-meta-at:now\nx-ms-version:2023-11-03\n\
             /acct/acct/box/name\ncomp:list\nrestype:container";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_string_of_a_table_has_the_date_and_no_query() {
        let query = [("$top", "5".to_owned())];
        let text = request(Kind::Table, &headers(), &query).string_to_sign();
        let expected = "PUT\n\napplication/json\nFri, 02 Jan 2026 03:04:05 GMT\n\
             /acct/acct/box/name";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn the_signature_is_hidden() {
        let key = Credential::SharedKey(SharedKey::new("c2VjcmV0").unwrap());
        let headers = headers();
        let request = request(Kind::Table, &headers, &[]);
        let limits = Limits::until(chrono::DateTime::UNIX_EPOCH);
        let signed = key.authorize(&request, None, &limits).await;
        let Authorization { value, token } = signed.unwrap();
        assert!(token.is_none());
        assert!(value.is_sensitive());
        assert!(value.to_str().unwrap().starts_with("SharedKey acct:"));
    }
}
