use http::StatusCode;

use super::*;
use crate::core::{
    json::if_absent::IfAbsent,
    protocol::retry::{Action, Sent},
};

const LIST: ListQuery = ListQuery {
    path: "/security/incidents",
    records: "value",
    if_absent: IfAbsent::Error,
    filter: TimeFilter::OData("lastUpdateDateTime"),
    parameters: &[
        ("$orderby", "lastUpdateDateTime asc"),
        ("$expand", "alerts"),
    ],
    droppable: Some("$expand"),
    paging: Paging::Boundary {
        top: 50,
        ordered: true,
    },
};

fn window() -> Slice {
    Slice::Window(Window {
        from: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
        to: "2026-01-03T00:00:00Z".parse().unwrap(),
    })
}

fn plain(query: &str) -> String {
    percent_encoding::percent_decode_str(query)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

#[test]
fn a_window_is_asked_for_from_its_boundary() {
    let ask = |page: &str, clauses: &[String]| {
        let page = Page::parse(LIST.paging, window().window(), page).unwrap();
        plain(&page_query(&LIST, &window(), &page, clauses))
    };
    insta::assert_snapshot!(ask("", &[]), @"/security/incidents?$filter=lastUpdateDateTime ge 2026-01-02T03:04:05.0000000Z and lastUpdateDateTime lt 2026-01-03T00:00:00.0000000Z&$top=50&$orderby=lastUpdateDateTime asc&$expand=alerts");
    let page = "2026-01-02T04:00:00.123456700Z/2026-01-03T00:00:00Z+7*12!";
    insta::assert_snapshot!(ask(page, &["severity eq 'high'".to_owned()]), @"/security/incidents?$filter=lastUpdateDateTime ge 2026-01-02T04:00:00.1234567Z and lastUpdateDateTime lt 2026-01-03T00:00:00.0000000Z and severity eq 'high'&$top=12&$skip=7&$orderby=lastUpdateDateTime asc");
}

#[test]
fn a_pass_is_asked_for_by_numbers() {
    let list = ListQuery {
        path: "/api/machines",
        filter: TimeFilter::OData("lastSeen"),
        parameters: &[],
        paging: Paging::Skip { top: 10_000 },
        ..LIST
    };
    let ask = |slice: &Slice, page: &Page| plain(&page_query(&list, slice, page, &[]));
    insta::assert_snapshot!(ask(&Slice::Pass, &Page::Skip(1_000_000, None)), @"/api/machines?$top=10000&$skip=1000000");
    insta::assert_snapshot!(ask(&window(), &Page::First), @"/api/machines?$filter=lastSeen ge 2026-01-02T03:04:05.0000000Z and lastSeen lt 2026-01-03T00:00:00.0000000Z&$top=10000&$skip=0");
}

#[test]
fn changes_are_asked_for_from_the_beginning_of_their_bucket() {
    let list = ListQuery {
        path: "/api/machines/SoftwareVulnerabilityChangesByMachine",
        filter: TimeFilter::Since("sinceTime", 6),
        parameters: &[("pageSize", "50000")],
        paging: Paging::Link,
        ..LIST
    };
    let asked = plain(&page_query(&list, &window(), &Page::First, &[]));
    insta::assert_snapshot!(asked, @"/api/machines/SoftwareVulnerabilityChangesByMachine?sinceTime=2026-01-02T00:00:00.0000000Z&pageSize=50000");
}

/// Status, body, what was asked, and what it means.
#[test]
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn refusals_are_understood_by_their_words() {
    let error = |code: &str, message: &str| {
        serde_json::json!({"error": {"code": code, "message": message}}).to_string()
    };
    let missing = "Missing application roles. API required roles: SecurityIncident.Read.All,\
                   SecurityIncident.ReadWrite.All, application roles: Policy.Read.All,User.Read.All.";
    let quota = "API calls quota exceeded! Maximum allowed 30 per 00:01:00 for the key \
                 Destination+TenantID+AppID. You can send requests again in 8 seconds.";
    let unlicensed = "Unauthorized request - reason of failure: No Tvm license";
    let cases = [
        (
            401,
            error("Unauthorized", "Lifetime validation failed"),
            ErrorDialect::List,
        ),
        (401, error("Unauthorized", unlicensed), ErrorDialect::List),
        (403, error("Forbidden", missing), ErrorDialect::List),
        (
            403,
            error(
                "Forbidden",
                "Unauthorized request - Account is not provisioned.",
            ),
            ErrorDialect::List,
        ),
        (
            403,
            error("Authorization_RequestDenied", "Insufficient privileges."),
            ErrorDialect::List,
        ),
        (
            403,
            "<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code></Error>".to_owned(),
            ErrorDialect::File,
        ),
        (
            404,
            error("ResourceNotFound", "No machines"),
            ErrorDialect::Snapshot,
        ),
        (404, error("NotFound", "Not found"), ErrorDialect::List),
        (404, "<html>".to_owned(), ErrorDialect::List),
        (404, error("UnknownError", ""), ErrorDialect::List),
        (404, String::new(), ErrorDialect::List),
        (
            404,
            r#"{"error":{"code":"NotFound","message":null}}"#.to_owned(),
            ErrorDialect::List,
        ),
        (404, r#"{"error":null}"#.to_owned(), ErrorDialect::List),
        (
            401,
            serde_json::json!({"error":{"code":null,"message":unlicensed,"innerError":null}})
                .to_string(),
            ErrorDialect::List,
        ),
        (206, r#"{"value":[]}"#.to_owned(), ErrorDialect::List),
        (429, error("429", quota), ErrorDialect::List),
        (
            429,
            error("TooManyRequests", "Please retry again later."),
            ErrorDialect::List,
        ),
        (
            429,
            error(
                "TooManyRequests",
                "You have exceeded processing resources allocated to this tenant. You can run queries again in 00:10:00.",
            ),
            ErrorDialect::Hunting,
        ),
        (
            400,
            error(
                "BadRequest",
                "Query execution has exceeded the allowed result size. Optimize",
            ),
            ErrorDialect::Hunting,
        ),
        (
            400,
            error(
                "BadRequest",
                "'where' operator: Failed to resolve table or column expression named 'EmailEvents'.",
            ),
            ErrorDialect::Hunting,
        ),
        (
            400,
            error(
                "BadRequest",
                "The limit of '50' for Top query has been exceeded.",
            ),
            ErrorDialect::List,
        ),
        (
            400,
            error("BadRequest", "Syntax error"),
            ErrorDialect::Hunting,
        ),
        (504, error("UnknownError", ""), ErrorDialect::Hunting),
        (504, error("UnknownError", ""), ErrorDialect::List),
        (500, error("InternalServerError", ""), ErrorDialect::List),
        (
            500,
            error("InternalServerError", ""),
            ErrorDialect::Expanded,
        ),
        (500, "a \"secret\" body".to_owned(), ErrorDialect::List),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(status, body, asks)| {
            let status = StatusCode::from_u16(*status).unwrap();
            let Refusal {
                action,
                lacks_role,
                wait,
                what,
            } = refusal(*asks, status, Sent::default(), body.as_bytes());
            assert_eq!(lacks_role, what.contains("lacks the role"), "{what}");
            let wait = wait.map_or_else(String::new, |wait| format!(" in {wait:?}"));
            format!("{asks:?}: {what} → {action:?}{wait}")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    List: answered 401 Unauthorized → Authorize
    List: answered 401 Unauthorized (`No Tvm license`): the tenant has no licence of Microsoft Defender Vulnerability Management → NotOffered
    List: answered 403 Forbidden: the app lacks the role SecurityIncident.Read.All or SecurityIncident.ReadWrite.All → Forbidden
    List: answered 403 Forbidden (`Account is not provisioned`): Microsoft Defender XDR is not set up in the tenant → NotOffered
    List: answered 403 Authorization_RequestDenied → Forbidden
    File: answered 403 Forbidden → PositionRefused
    Snapshot: answered 404 ResourceNotFound → Empty
    List: answered 404 NotFound → Retry
    List: answered 404 Not Found → NotThere
    List: answered 404 UnknownError → NotThere
    List: answered 404 Not Found → NotThere
    List: answered 404 NotFound → Retry
    List: answered 404 Not Found → NotThere
    List: answered 401 Unauthorized (`No Tvm license`): the tenant has no licence of Microsoft Defender Vulnerability Management → NotOffered
    List: answered 206 Partial Content → Retry
    List: answered 429 429 → Retry in 8s
    List: answered 429 TooManyRequests → Retry
    Hunting: answered 429 TooManyRequests → UsedUp
    Hunting: answered 400 BadRequest → TooLarge
    Hunting: answered 400 BadRequest: the tenant has no such table → NotOffered
    List: answered 400 BadRequest → TooLarge
    Hunting: answered 400 BadRequest → Unexpected
    Hunting: answered 504 UnknownError → TooLarge
    List: answered 504 UnknownError → Retry
    List: answered 500 InternalServerError → Retry
    Expanded: answered 500 InternalServerError → TooLarge
    List: answered 500 Internal Server Error → Retry
    ");
    // A position that is sent along may be what is refused.
    let sent = Sent {
        position: true,
        ..Sent::default()
    };
    let bad = error("BadRequest", "Invalid $skip");
    let of = refusal(
        ErrorDialect::List,
        StatusCode::BAD_REQUEST,
        sent,
        bad.as_bytes(),
    );
    assert_eq!(of.action, Action::PositionRefused);
}
