//! HTTPS for the simulators: a certificate authority of our own and a server for localhost.

use std::{
    convert::Infallible,
    future::ready,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, HttpBody},
    http::{Request, Response},
};
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt, service_fn};

use super::answer::ConnectionLost;
use crate::error::{Error, Result};

/// How many bytes a client may send before the server has read them.
const RECEIVED_AHEAD: u32 = 4 << 20;

/// `vault` is what Key Vault's clients need: a host below the one that its challenge names.
const NAMES: [&str; 4] = ["localhost", "vault.localhost", "127.0.0.1", "::1"];

/// A certificate authority that signs certificates for localhost. It can be kept as text, so that
/// what once trusted it goes on trusting it.
pub struct Authority {
    certificate: String,
    key: KeyPair,
    now: DateTime<Utc>,
}

impl Authority {
    /// A new authority, valid from a day before `now` for ten years.
    pub fn generate(now: DateTime<Utc>) -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = authority_params(now)?
            .self_signed(&key)
            .map_err(failed)?
            .pem();
        Ok(Self {
            certificate,
            key,
            now,
        })
    }

    /// The authority that [`Authority::to_pem`] wrote down.
    pub fn from_pem(pem: &str, now: DateTime<Utc>) -> Result<Self> {
        let begin = pem.find("-----BEGIN PRIVATE KEY-----");
        let (certificate, key) = begin
            .and_then(|at| pem.split_at_checked(at))
            .ok_or_else(|| Error::config("the kept authority holds no private key"))?;
        let key = KeyPair::from_pem(key).map_err(failed)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key,
            now,
        })
    }

    /// Certificate and key, to keep in a safe place.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.certificate, self.key.serialize_pem())
    }

    /// The certificate, for those who shall trust it.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// TLS for a server on localhost.
    fn server_config(&self) -> Result<ServerConfig> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params =
            CertificateParams::new(NAMES.map(str::to_owned).to_vec()).map_err(failed)?;
        valid_from(&mut params, self.now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let authority = authority_params(self.now)?;
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(failed)?
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn authority_params(now: DateTime<Utc>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "sentinel-connector simulator");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_from(&mut params, now)?;
    Ok(params)
}

fn valid_from(params: &mut CertificateParams, now: DateTime<Utc>) -> Result<()> {
    let day = |time: DateTime<Utc>| -> Result<_> {
        let month = u8::try_from(time.month()).map_err(failed)?;
        let day = u8::try_from(time.day()).map_err(failed)?;
        Ok(date_time_ymd(time.year(), month, day))
    };
    params.not_before = day(now - TimeDelta::days(1))?;
    params.not_after = day(now + TimeDelta::days(3652))?;
    Ok(())
}

/// A server that runs until it is stopped or dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// `https://localhost:PORT`.
    pub base_url: String,
    handle: Handle<SocketAddr>,
    task: JoinHandle<()>,
}

impl Server {
    /// Ends every connection and stops listening.
    pub async fn stop(mut self) {
        self.handle.shutdown();
        // The task can only have ended; how does not matter any more.
        drop((&mut self.task).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// Serves `router` over HTTPS; port 0 takes any that is free.
#[allow(clippy::unused_async, reason = "it must be called within a runtime")]
pub async fn serve(router: Router, address: SocketAddr, authority: &Authority) -> Result<Server> {
    let listening =
        |error: std::io::Error| Error::config(format!("can't listen on {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(listening)?;
    listener.set_nonblocking(true).map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    let config = RustlsConfig::from_config(Arc::new(authority.server_config()?));
    let handle = Handle::new();
    // With Nagle's delay, small frames would wait for acknowledgements that the client delays, too.
    let acceptor = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor::new());
    let mut server = axum_server::from_tcp(listener)
        .map_err(listening)?
        .acceptor(acceptor)
        .handle(handle.clone());
    // A batch of rows comes in one go.
    server
        .http_builder()
        .http2()
        .initial_stream_window_size(RECEIVED_AHEAD)
        .initial_connection_window_size(RECEIVED_AHEAD);
    let task = tokio::spawn(async move {
        let service = Outermost(router);
        let make = service_fn(move |_: SocketAddr| ready(Ok::<_, Infallible>(service.clone())));
        if let Err(error) = server.serve(make).await {
            tracing::error!("the simulator stopped: {error}");
        }
    });
    let base_url = format!("https://localhost:{}", address.port());
    Ok(Server {
        address,
        base_url,
        handle,
        task,
    })
}

/// The router, but that its error, which a router can't have, makes the connection die without an
/// answer.
#[derive(Clone)]
struct Outermost(Router);

impl<B> Service<Request<B>> for Outermost
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let router = self.0.clone();
        Box::pin(async move {
            let response = match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            match response.extensions().get::<ConnectionLost>() {
                None => Ok(response),
                Some(_) => Err(std::io::Error::other("the connection died")),
            }
        })
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::config(format!("TLS of the simulator: {error}"))
}
