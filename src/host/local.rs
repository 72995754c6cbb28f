//! A function with an HTTP trigger over plain HTTP, where there is no Functions host before it: to this
//! machine alone, since nobody asks for a key here.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{ACCEPT, HOST},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Functions, Invocation};
use crate::error::{Error, Result};

/// Opens an address of this machine.
///
/// # Errors
/// `Config` for one that others reach, or that is not to be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(Error::config(format!(
            "`{address}` is reached from other machines, and nobody asks for a key there: use one such \
             as 127.0.0.1:8070, and a tunnel (`ssh -L`) from elsewhere"
        )));
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::config(format!("`{address}` can't be opened: {error}")))
}

/// Answers `GET /` with what `function` answers, until `stop` is cancelled.
pub async fn serve(
    listener: TcpListener,
    functions: Arc<dyn Functions>,
    function: &'static str,
    stop: CancellationToken,
) -> Result<()> {
    let local = Local {
        functions,
        function,
        stop: stop.clone(),
    };
    let router = Router::new().fallback(answer).with_state(local);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|error| Error::transient(format!("the server failed: {error}")))
}

#[derive(Clone)]
struct Local {
    functions: Arc<dyn Functions>,
    function: &'static str,
    stop: CancellationToken,
}

async fn answer(State(local): State<Local>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    if !is_of_this_machine(request.headers()) {
        // A name that leads here is somebody else's page, which must not read ours.
        return (
            StatusCode::MISDIRECTED_REQUEST,
            "use 127.0.0.1 or localhost",
        )
            .into_response();
    }
    if !path.is_empty()
        && path != local.function
        && path.strip_prefix("api/") != Some(local.function)
    {
        return (StatusCode::NOT_FOUND, "there is only `/`").into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, "use GET here").into_response();
    }
    let invocation = Invocation {
        id: format!("{:032x}", rand::random::<u128>()),
        function: local.function.to_owned(),
        data: json!({ "req": as_the_host_tells(request.uri(), request.headers()) }),
        metadata: Value::Null,
        stop: local.stop.clone(),
    };
    match local.functions.run(invocation).await {
        Ok(answer) => response(&answer.outputs["res"]),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.reason).into_response(),
    }
}

/// True unless the caller was led here by another name.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    let address: std::result::Result<std::net::IpAddr, _> = name.parse();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// A request as the Functions host writes it into an invocation.
fn as_the_host_tells(uri: &Uri, headers: &HeaderMap) -> Value {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(uri);
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let accept = headers.get_all(ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    json!({ "Query": query, "Headers": { "Accept": [accept.join(",")] } })
}

/// What an output binding of HTTP says.
fn response(res: &Value) -> Response {
    let status = res["statusCode"].as_u64();
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let body = res["body"].as_str().unwrap_or_default().to_owned();
    let mut response = (status.unwrap_or_default(), body).into_response();
    for (name, value) in res["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.as_str().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_else_leads_here_is_refused() {
        let asked = |host: &str| {
            let host = HeaderValue::from_str(host).unwrap();
            is_of_this_machine(&HeaderMap::from_iter([(HOST, host)]))
        };
        for own in [
            "127.0.0.1:8070",
            "localhost",
            "LOCALHOST:8070",
            "[::1]:8070",
            "127.0.0.9",
        ] {
            assert!(asked(own), "{own}");
        }
        for other in [
            "evil.example:8070",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "",
        ] {
            assert!(!asked(other), "{other}");
        }
        assert!(!is_of_this_machine(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn an_address_that_others_reach_is_refused() {
        for address in ["0.0.0.0:0", "[::]:0", "10.1.2.3:8070"] {
            let refused = bind(address.parse().unwrap()).await.unwrap_err();
            assert!(refused.to_string().contains("a tunnel"), "{refused}");
        }
        assert!(bind("127.0.0.1:0".parse().unwrap()).await.is_ok());
    }
}
