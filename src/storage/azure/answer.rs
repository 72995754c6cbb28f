//! What an answer of Table, Blob or Queue Storage calls for: a table, then nothing.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::auth::Kind;

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The service's name of the error, empty when there is none.
    pub(super) code: String,
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        let code = if status.is_success() {
            String::new()
        } else {
            code(&headers, &body)
        };
        Self {
            status,
            headers,
            body,
            code,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The service says that it is not there: 404, and the code that is meant.
    pub(super) fn is_missing(&self, code: &str) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code == code
    }

    /// Who asked is not known, which a new access token may mend.
    pub(super) fn is_about_token(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED || self.code == "AuthenticationFailed"
    }

    /// `answered 403 AuthenticationFailed (request id …)`.
    pub(super) fn described(&self) -> String {
        let mut text = format!("answered {}", self.status.as_u16());
        if !self.code.is_empty() {
            text.push(' ');
            text.push_str(&self.code);
        }
        match self.header("x-ms-request-id") {
            Some(id) if id.len() < 64 => format!("{text} (request id {id})"),
            _ => text,
        }
    }
}

/// In a header; the Table service may have it in the body alone. Anything that does not look like a
/// name is left out: a proxy may have written it.
fn code(headers: &HeaderMap, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ErrorBody {
        #[serde(rename = "odata.error")]
        error: Code,
    }
    #[derive(Deserialize)]
    struct Code {
        code: String,
    }
    let header = headers.get("x-ms-error-code");
    let found = match header.and_then(|value| value.to_str().ok()) {
        Some(code) => Some(code.to_owned()),
        None => serde_json::from_slice::<ErrorBody>(body)
            .ok()
            .map(|body| body.error.code),
    };
    found
        .filter(|code| code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .unwrap_or_default()
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is for the caller: done, not there, there already, changed meanwhile, nothing more.
    Hand,
    /// Ask again later.
    Retry,
    /// The operator has to act.
    Refused,
    /// Nothing that was agreed on.
    Unexpected,
}

/// The table (learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes and those of
/// the three services).
///
/// | status | code | verdict |
/// |---|---|---|
/// | 2xx | | hand |
/// | 304 404 412 416 | | hand |
/// | 409 | `TableBeingDeleted` `ContainerBeingDeleted` `QueueBeingDeleted` `AccountBeingCreated` | retry: about 30 s |
/// | 409 | others | hand |
/// | 401 403 | | refused |
/// | 408 429 5xx | `ServerBusy` `OperationTimedOut` `InternalError`… | retry |
/// | others | | unexpected |
pub(super) fn verdict(status: StatusCode, code: &str) -> Verdict {
    let passing = [
        "TableBeingDeleted",
        "ContainerBeingDeleted",
        "QueueBeingDeleted",
        "AccountBeingCreated",
    ];
    match status.as_u16() {
        409 if passing.contains(&code) => Verdict::Retry,
        200..300 | 304 | 404 | 409 | 412 | 416 => Verdict::Hand,
        401 | 403 => Verdict::Refused,
        408 | 429 | 500.. => Verdict::Retry,
        _ => Verdict::Unexpected,
    }
}

/// What the operator has to change after a refusal.
pub(super) fn fix(code: &str, with_key: bool, kind: Kind) -> &'static str {
    match (code, with_key) {
        // One that may read and not write looks like this.
        ("AuthorizationPermissionMismatch", false) => match kind {
            Kind::Table => {
                "the identity lacks a role for this: give it `Storage Table Data Contributor` on the \
                 account, which may take 10 minutes to work (a reader's role is not enough)"
            }
            Kind::Blob => {
                "the identity lacks a role for this: give it `Storage Blob Data Owner` on the \
                 account, which may take 10 minutes to work (a reader's role is not enough)"
            }
            Kind::Queue => {
                "the identity lacks a role for this: give it `Storage Queue Data Contributor` on the \
                 account, which may take 10 minutes to work (a reader's role is not enough)"
            }
        },
        ("KeyBasedAuthenticationNotPermitted", _) => {
            "the account does not take keys: set `AzureWebJobsStorage__accountName` instead of \
             `AzureWebJobsStorage`, and give the app's identity `Storage Blob Data Owner` and \
             `Storage Table Data Contributor` on the account"
        }
        (_, true) => {
            "the account key is refused, or the account's firewall does not let this app in: copy \
             the connection string again into `AzureWebJobsStorage` and look at the account's \
             networking, and at this machine's clock"
        }
        ("InvalidAuthenticationInfo" | "AuthenticationFailed", false) => {
            "the access token is refused: look whether the identity is of the account's tenant, and \
             at this machine's clock"
        }
        (_, false) => {
            "the identity may not use the account: give it `Storage Blob Data Owner` and `Storage \
             Table Data Contributor` there (a role may take 10 minutes to work), and look at the \
             account's networking"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        for (status, code, expected) in [
            (200, "", Verdict::Hand),
            (204, "", Verdict::Hand),
            (404, "ResourceNotFound", Verdict::Hand),
            (412, "UpdateConditionNotSatisfied", Verdict::Hand),
            (416, "InvalidRange", Verdict::Hand),
            (409, "EntityAlreadyExists", Verdict::Hand),
            (409, "TableBeingDeleted", Verdict::Retry),
            (409, "ContainerBeingDeleted", Verdict::Retry),
            (409, "QueueBeingDeleted", Verdict::Retry),
            (409, "QueueAlreadyExists", Verdict::Hand),
            (400, "InvalidInput", Verdict::Unexpected),
            (401, "InvalidAuthenticationInfo", Verdict::Refused),
            (403, "AuthenticationFailed", Verdict::Refused),
            (413, "RequestBodyTooLarge", Verdict::Unexpected),
            (302, "", Verdict::Unexpected),
            (408, "", Verdict::Retry),
            (429, "", Verdict::Retry),
            (500, "OperationTimedOut", Verdict::Retry),
            (503, "ServerBusy", Verdict::Retry),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_names_the_fix() {
        for (code, with_key, expected) in [
            ("AuthenticationFailed", true, "connection string again"),
            ("AuthorizationFailure", true, "networking"),
            ("KeyBasedAuthenticationNotPermitted", true, "__accountName"),
            (
                "AuthorizationPermissionMismatch",
                false,
                "Storage Table Data Contributor",
            ),
            ("AuthorizationFailure", false, "networking"),
            ("InvalidAuthenticationInfo", false, "tenant"),
        ] {
            let text = fix(code, with_key, Kind::Table);
            assert!(text.contains(expected), "{code}: {text}");
        }
        let text = fix("AuthorizationPermissionMismatch", false, Kind::Blob);
        assert!(text.contains("Storage Blob Data Owner") && !text.contains("Table"));
        let text = fix("AuthorizationPermissionMismatch", false, Kind::Queue);
        assert!(text.contains("Storage Queue Data Contributor"), "{text}");
    }

    #[test]
    fn the_code_is_in_a_header_or_in_the_body() {
        let of = |header: Option<&'static str>, body: &'static str| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-ms-error-code", header.parse().unwrap());
            }
            Answer::new(StatusCode::CONFLICT, headers, Bytes::from(body)).code
        };
        let body = r#"{"odata.error":{"code":"TableNotFound","message":{"value":"secret"}}}"#;
        assert_eq!(of(None, body), "TableNotFound");
        assert_eq!(of(Some("EntityAlreadyExists"), body), "EntityAlreadyExists");
        assert_eq!(of(None, "<html>"), "");
        assert_eq!(of(Some("<a href=x>"), ""), "");
    }
}
