//! The Azure crates' way out: whatever they send goes through our [`Transport`](super::http::Transport),
//! so that there is one client, and simulators and virtual time hold for them, too.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, Body, ClientOptions, HttpClient, Method, Request, RetryOptions,
        headers::{HeaderName, HeaderValue, Headers},
    },
};
use futures_util::{StreamExt, TryStreamExt};

use super::http::{SharedTransport, TransportError};

/// Options for a client of the Azure crates. Their own retries are off: they sleep past our clock,
/// and by default for a minute.
pub(crate) fn client_options(
    transport: &SharedTransport,
    authority: Option<&str>,
) -> ClientOptions {
    ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(azure_core::http::Transport::new(Arc::new(AzureTransport(
            Arc::clone(transport),
        )))),
        cloud: authority.map(|authority| {
            let mut cloud = CustomConfiguration::default();
            authority.clone_into(&mut cloud.authority_host);
            Arc::new(CloudConfiguration::Custom(cloud))
        }),
        ..ClientOptions::default()
    }
}

struct AzureTransport(SharedTransport);

impl fmt::Debug for AzureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureTransport")
    }
}

#[async_trait]
impl HttpClient for AzureTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let response = self.0.send(converted(request)?).await.map_err(failed)?;
        let headers: HashMap<HeaderName, HeaderValue> = response
            .headers
            .iter()
            .filter_map(|(name, value)| {
                let value = value.to_str().ok()?.to_owned();
                Some((name.as_str().to_owned().into(), value.into()))
            })
            .collect();
        let body = response.body.map_err(failed).boxed();
        Ok(AsyncRawResponse::new(
            response.status.as_u16().into(),
            Headers::from(headers),
            body,
        ))
    }
}

fn converted(request: &Request) -> azure_core::Result<super::http::Request> {
    let method = match request.method() {
        Method::Delete => http::Method::DELETE,
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Patch => http::Method::PATCH,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        other => {
            let text = format!("the method {other} can't be sent");
            return Err(Error::with_message(ErrorKind::Other, text));
        }
    };
    let mut built = http::Request::builder()
        .method(method)
        .uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        built = built.header(name.as_str(), value.as_str());
    }
    let Body::Bytes(body) = request.body() else {
        let text = "a body that is a stream can't be sent";
        return Err(Error::with_message(ErrorKind::Other, text));
    };
    built
        .body(body.clone())
        .map_err(|error| Error::new(ErrorKind::Other, error))
}

fn failed(error: TransportError) -> Error {
    Error::new(ErrorKind::Io, error)
}
