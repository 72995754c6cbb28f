//! Refusals in the words of Defender for Endpoint, of Graph, and of the storage account.

use axum::http::StatusCode;
use serde_json::json;

use crate::simulator::{
    answer::{Answer, Content},
    target::Target,
};

/// Stands for the correlation of an error.
const CORRELATION: &str = "43f1cc08-9fac-4d65-8fb1-745c2ae65a13";

/// An error of Defender for Endpoint and of Defender XDR.
pub(super) fn api(status: StatusCode, code: &str, message: impl Into<String>) -> Answer {
    let message: String = message.into();
    Answer::json(
        status,
        json!({"error": {"code": code, "message": message, "target": CORRELATION}}),
    )
}

/// An error of Microsoft Graph.
pub(super) fn graph(status: StatusCode, code: &str, message: impl Into<String>) -> Answer {
    let message: String = message.into();
    let inner = json!({
        "date": "2026-03-04T10:00:00",
        "request-id": CORRELATION,
        "client-request-id": CORRELATION,
    });
    Answer::json(
        status,
        json!({"error": {"code": code, "message": message, "innerError": inner}}),
    )
}

/// An error of the service that `target` belongs to.
pub(super) fn of(
    target: Target,
    status: StatusCode,
    code: &str,
    message: impl Into<String>,
) -> Answer {
    if target.is_graph() {
        graph(status, code, message)
    } else {
        api(status, code, message)
    }
}

/// 400 for a query that nobody understands.
pub(super) fn bad_query(target: Target, message: impl Into<String>) -> Answer {
    let code = if target.is_graph() {
        "BadRequest"
    } else {
        "ODataError"
    };
    of(target, StatusCode::BAD_REQUEST, code, message)
}

/// An error of the storage account.
pub(super) fn blob(status: StatusCode, code: &str, message: &str, detail: &str) -> Answer {
    let detail = match detail {
        "" => String::new(),
        detail => format!("<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>"),
    };
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}\n\
         RequestId:{CORRELATION}</Message>{detail}</Error>"
    );
    Answer {
        content: Content::Xml(text),
        ..Answer::status(status)
    }
}

/// 403 of the storage account.
pub(super) fn forbidden_blob(detail: &str) -> Answer {
    let message = "Server failed to authenticate the request. Make sure the value of Authorization \
                   header is formed correctly including the signature.";
    blob(
        StatusCode::FORBIDDEN,
        "AuthenticationFailed",
        message,
        detail,
    )
}

/// 403 for a link that was good once.
pub(super) fn expired_link() -> Answer {
    forbidden_blob("Signature not valid in the specified key time frame")
}

/// 429 of Defender for Endpoint; `wait` in seconds, when it tells how long.
pub(super) fn quota(limit: u64, window: &str, wait: Option<u64>) -> Answer {
    let hint = match wait {
        Some(seconds) => format!(
            "Maximum allowed {limit} per {window} for the key Destination+TenantID+AppID. You can \
             send requests again in {seconds} seconds."
        ),
        None => format!("maximum allowed {limit} per {window}"),
    };
    let message = format!("API calls quota exceeded! {hint}");
    api(StatusCode::TOO_MANY_REQUESTS, "429", message)
}

/// 429 of Graph.
pub(super) fn graph_quota() -> Answer {
    let inner = json!({
        "code": "429", "date": "2026-03-04T10:00:00", "message": "Please retry after",
        "request-id": CORRELATION, "status": "429",
    });
    Answer::json(
        StatusCode::TOO_MANY_REQUESTS,
        json!({"error": {
            "code": "TooManyRequests", "innerError": inner, "message": "Please retry again later.",
        }}),
    )
}

/// 403 that names the roles that would do, and those that are there.
pub(super) fn missing_roles(target: Target, needed: &[&str], present: &[&str]) -> Answer {
    let message = format!(
        "Missing application roles. API required roles: {}, application roles: {}.",
        needed.join(","),
        present.join(",")
    );
    of(target, StatusCode::FORBIDDEN, "Forbidden", message)
}

/// The answer of the service itself to a status that a fault asks for.
pub(in crate::simulator) fn refusal(
    target: Target,
    status: StatusCode,
    retry_after: Option<u64>,
) -> Answer {
    if target == Target::DefenderFile {
        return match status.as_u16() {
            401 | 403 => forbidden_blob(""),
            404 => blob(
                status,
                "BlobNotFound",
                "The specified blob does not exist.",
                "",
            ),
            400..=499 => blob(
                status,
                "InvalidInput",
                "One of the request inputs is not valid.",
                "",
            ),
            _ => blob(status, "ServerBusy", "The server is busy.", ""),
        };
    }
    let is_graph = target.is_graph();
    match status.as_u16() {
        429 if is_graph => graph_quota(),
        429 => quota(100, "00:01:00", retry_after),
        401 if is_graph => {
            let message = "Lifetime validation failed, the token is expired.";
            graph(status, "InvalidAuthenticationToken", message)
        }
        401 => api(
            status,
            "Unauthorized",
            "Unauthorized request - the token is expired",
        ),
        403 if is_graph => {
            let message = "Insufficient privileges to complete the operation.";
            graph(status, "Authorization_RequestDenied", message)
        }
        403 => api(status, "Forbidden", "The user is not allowed to do this."),
        404 => of(
            target,
            status,
            "ResourceNotFound",
            "The resource was not found",
        ),
        // Without a word about why.
        504 if is_graph => graph(status, "UnknownError", ""),
        400..=499 => of(target, status, "BadRequest", "The request is not valid."),
        501..=599 => of(
            target,
            status,
            "ServiceUnavailable",
            "The service is not available.",
        ),
        _ => of(target, status, "InternalServerError", ""),
    }
}
