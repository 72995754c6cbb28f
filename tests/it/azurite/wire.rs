//! The wire between the tests and the emulator: answers as Azure does where the two differ.
//!
//! The differences, and where each is known from, stand in `docs/contracts/azurite.md`. Whatever the
//! emulator answers as the service would goes through unchanged.

use std::{
    collections::{BTreeSet, HashSet},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use axum_server::tls_rustls::RustlsConfig;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use sentinel_connector::io::http::{self as connector, SharedTransport};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

/// The most entities of a page.
const MAX_TOP: u64 = 1_000;

/// The most properties of an entity beside its keys and its time.
const MAX_PROPERTIES: usize = 252;

/// The most bytes of an entity, as the service counts them.
const MAX_ENTITY: usize = 1 << 20;

/// The most changes of a batch.
const MAX_CHANGES: usize = 100;

/// The most bytes of an append before the version in [`LONG_APPENDS`].
const MAX_APPEND: usize = 4 << 20;

/// The first version of the service that takes longer appends.
const LONG_APPENDS: &str = "2022-11-02";

/// The most bytes of a blob's metadata, names and values.
const MAX_METADATA: usize = 8 << 10;

const META: &str = "x-ms-meta-";

/// The `oid` of an identity that may only read tables, blobs, or both.
pub(crate) const READERS: [&str; 3] = ["reads tables", "reads blobs", "reads both"];

/// The `oid` of an identity that may only read queues.
pub(crate) const QUEUE_READER: &str = "reads queues";

/// The three services that the connector speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Tables,
    Blobs,
    Queues,
}

/// The emulator behind the wire.
pub(super) struct Emulator {
    pub(super) network: SharedTransport,
    /// Its address for tables.
    pub(super) tables: String,
    /// Its address for blobs.
    pub(super) blobs: String,
    /// Its address for queues.
    pub(super) queues: String,
}

/// Certificate and key that the wire shows, in PEM.
pub(super) type Shown = Option<[Vec<u8>; 2]>;

/// Serves until it is dropped.
pub(super) struct Wire {
    pub(super) tables: u16,
    pub(super) blobs: u16,
    pub(super) queues: u16,
    _stop: oneshot::Sender<()>,
}

impl Wire {
    /// A wire to an emulator, on threads of its own: tests begin and end while it goes on.
    pub(super) fn to(emulator: Emulator, shown: Shown) -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = [0, 1, 2].map(|at: usize| listeners[at].local_addr().unwrap().port());
        let [tables, blobs, queues] = ports;
        let (stop, stopped) = oneshot::channel();
        let Emulator {
            network,
            tables: table_url,
            blobs: blob_url,
            queues: queue_url,
        } = emulator;
        let ends = [
            (Service::Tables, table_url),
            (Service::Blobs, blob_url),
            (Service::Queues, queue_url),
        ];
        let ends = ends.map(|(service, url)| {
            Arc::new(End {
                service,
                url,
                network: Arc::clone(&network),
                leased: Mutex::default(),
            })
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for (listener, end) in listeners.into_iter().zip(ends) {
                    tokio::spawn(serve(listener, end, shown.clone()));
                }
                drop(stopped.await);
            });
        });
        Self {
            tables,
            blobs,
            queues,
            _stop: stop,
        }
    }
}

async fn serve(listener: TcpListener, end: Arc<End>, shown: Shown) {
    listener.set_nonblocking(true).unwrap();
    let router = Router::new().fallback(move |request: Request| {
        let end = Arc::clone(&end);
        async move { end.exchange(request).await }
    });
    let router = router.into_make_service();
    match shown {
        None => axum_server::from_tcp(listener).unwrap().serve(router).await,
        Some([certificate, key]) => {
            drop(rustls::crypto::ring::default_provider().install_default());
            let config = RustlsConfig::from_pem(certificate, key).await.unwrap();
            let server = axum_server::from_tcp_rustls(listener, config).unwrap();
            server.serve(router).await
        }
    }
    .unwrap();
}

/// One service's end of the wire.
struct End {
    service: Service,
    url: String,
    network: SharedTransport,
    /// The blobs that have had a lease which nobody gave back.
    leased: Mutex<HashSet<String>>,
}

impl End {
    async fn exchange(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        if may_only_read(&head.headers, self.service) && head.method != Method::GET {
            return mismatch(self.service);
        }
        let refused = match self.service {
            Service::Tables => tables_refuse(&head, &body),
            Service::Blobs => blobs_refuse(&head, &body),
            Service::Queues => None,
        };
        if let Some(refused) = refused {
            return refused;
        }
        self.note_leases(&head);
        let mut passed = connector::Request::new(body);
        *passed.method_mut() = head.method.clone();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        *passed.uri_mut() = format!("{}{path}", self.url).parse().unwrap();
        *passed.headers_mut() = without_connection(&head.headers);
        match self.network.send(passed).await {
            Ok(answer) => self.as_azure(&head, answer),
            // As a machine in between answers when the service behind it is gone.
            Err(_) => answered(StatusCode::BAD_GATEWAY, "", Body::empty()),
        }
    }

    /// The emulator's answer, or the service's where it has another one.
    fn as_azure(&self, head: &Parts, answer: connector::Response) -> Response {
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        let (length, code) = (header("content-length"), header("x-ms-error-code"));
        let ranged = ["range", "x-ms-range"].map(|name| head.headers.contains_key(name));
        let reads = self.service == Service::Blobs && head.method == Method::GET;
        if reads && ranged.contains(&true) && answer.status.is_success() && length == "0" {
            let range = header("content-range");
            let whole = range.rsplit_once('/').map_or("*", |(_, whole)| whole);
            let mut refused = blob_error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
            let range = format!("bytes */{whole}").parse().unwrap();
            refused.headers_mut().insert(header::CONTENT_RANGE, range);
            return refused;
        }
        if code == "LeaseNotPresentWithBlobOperation" && self.was_leased(&head.uri) {
            return blob_error(StatusCode::PRECONDITION_FAILED, "LeaseLost");
        }
        let mut passed = Response::new(Body::from_stream(answer.body));
        *passed.status_mut() = answer.status;
        *passed.headers_mut() = without_connection(&answer.headers);
        passed
    }

    fn note_leases(&self, head: &Parts) {
        let action = head.headers.get("x-ms-lease-action");
        let mut leased = self.leased.lock().unwrap();
        match action.and_then(|action| action.to_str().ok()) {
            Some("acquire") => drop(leased.insert(head.uri.path().to_owned())),
            Some("release") => drop(leased.remove(head.uri.path())),
            _ => {}
        }
    }

    fn was_leased(&self, uri: &Uri) -> bool {
        self.leased.lock().unwrap().contains(uri.path())
    }
}

/// Whether the token is of somebody who has a reader's role there. The emulator knows no roles.
fn may_only_read(headers: &HeaderMap, service: Service) -> bool {
    let claims = || {
        let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let claims = token.strip_prefix("Bearer ")?.split('.').nth(1)?;
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    };
    let who = claims().and_then(|claims| claims["oid"].as_str().map(str::to_owned));
    let [tables, blobs, both] = READERS;
    let may_read = match service {
        Service::Tables => [tables, both],
        Service::Blobs => [blobs, both],
        Service::Queues => [QUEUE_READER; 2],
    };
    who.is_some_and(|who| may_read.contains(&&*who))
}

/// What a role that is missing is answered with.
fn mismatch(service: Service) -> Response {
    let code = "AuthorizationPermissionMismatch";
    match service {
        Service::Tables => answered(StatusCode::FORBIDDEN, "", table_error_body(code)),
        // An error of queues is written as one of blobs.
        Service::Blobs | Service::Queues => blob_error(StatusCode::FORBIDDEN, code),
    }
}

/// Without what belongs to one connection alone.
fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in ["host", "connection", "keep-alive", "transfer-encoding"] {
        headers.remove(name);
    }
    headers
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(found, _)| {
        let found = percent_encoding::percent_decode_str(found);
        found.decode_utf8_lossy() == name
    })?;
    let value = percent_encoding::percent_decode_str(value);
    Some(value.decode_utf8_lossy().into_owned())
}

fn tables_refuse(head: &Parts, body: &Bytes) -> Option<Response> {
    let top = query(&head.uri, "$top").and_then(|top| top.parse::<u64>().ok());
    if top.is_some_and(|top| top > MAX_TOP) {
        return Some(table_error("InvalidInput"));
    }
    if head.uri.path().ends_with("/$batch") {
        return batch_refuses(&String::from_utf8_lossy(body)).map(batch_error);
    }
    let entity: Map<String, Value> = serde_json::from_slice(body).ok()?;
    if properties(&entity).count() > MAX_PROPERTIES {
        return Some(table_error("TooManyProperties"));
    }
    (size(&entity) > MAX_ENTITY).then(|| table_error("EntityTooLarge"))
}

/// The properties that are counted.
fn properties(entity: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let system = ["PartitionKey", "RowKey", "Timestamp"];
    entity.iter().filter(move |(name, _)| {
        !system.contains(&name.as_str()) && !name.contains('@') && !name.starts_with("odata.")
    })
}

/// The bytes of an entity: texts are UTF-16, and each property has a head.
fn size(entity: &Map<String, Value>) -> usize {
    let text = |text: &str| 2 * text.encode_utf16().count();
    let keys = ["PartitionKey", "RowKey"].map(|key| entity.get(key).and_then(Value::as_str));
    let keys: usize = keys.into_iter().flatten().map(text).sum();
    let properties = properties(entity).map(|(name, value)| {
        let value = match value {
            Value::String(value) => 4 + text(value),
            Value::Bool(_) => 1,
            _ => 8,
        };
        8 + text(name) + value
    });
    4 + keys + properties.sum::<usize>()
}

/// Why a batch is refused whole.
fn batch_refuses(batch: &str) -> Option<&'static str> {
    let mut changes = 0;
    let mut partitions = BTreeSet::new();
    for line in batch.lines() {
        let (verb, target) = line.split_once(' ').unwrap_or_default();
        if ["POST", "PUT", "PATCH", "MERGE", "DELETE"].contains(&verb) {
            changes += 1;
            let partition = target.split_once("PartitionKey='");
            partitions
                .extend(partition.and_then(|(_, rest)| Some(rest.split_once('\'')?.0.to_owned())));
        } else if let Ok(entity) = serde_json::from_str::<Map<String, Value>>(line) {
            let partition = entity.get("PartitionKey").and_then(Value::as_str);
            partitions.extend(partition.map(str::to_owned));
        }
    }
    if changes > MAX_CHANGES {
        Some("InvalidInput")
    } else if partitions.len() > 1 {
        Some("CommandsInBatchActOnDifferentPartitions")
    } else {
        None
    }
}

fn blobs_refuse(head: &Parts, body: &Bytes) -> Option<Response> {
    let version = head.headers.get("x-ms-version");
    let version = version.and_then(|version| version.to_str().ok());
    let is_old = version.is_none_or(|version| version < LONG_APPENDS);
    let appends = query(&head.uri, "comp").is_some_and(|comp| comp == "appendblock");
    if appends && is_old && body.len() > MAX_APPEND {
        let refused = blob_error(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge");
        return Some(refused);
    }
    let metadata: usize = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some(name.as_str().strip_prefix(META)?.len() + value.len()))
        .sum();
    (metadata > MAX_METADATA).then(|| blob_error(StatusCode::BAD_REQUEST, "MetadataTooLarge"))
}

fn answered(status: StatusCode, code: &str, body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    if !code.is_empty() {
        let code = code.parse().unwrap();
        answer.headers_mut().insert("x-ms-error-code", code);
    }
    answer
}

fn blob_error(status: StatusCode, code: &str) -> Response {
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
         <Message>Refused.</Message></Error>"
    );
    answered(status, code, body)
}

/// Tables name an error in the body alone.
fn table_error(code: &str) -> Response {
    answered(StatusCode::BAD_REQUEST, "", table_error_body(code))
}

fn table_error_body(code: &str) -> String {
    let message = json!({ "lang": "en-US", "value": "Refused." });
    json!({ "odata.error": { "code": code, "message": message } }).to_string()
}

/// A batch is accepted, and the one answer in it says that nothing of it was done.
fn batch_error(code: &str) -> Response {
    let body = format!(
        "--batchresponse\r\nContent-Type: multipart/mixed; boundary=changesetresponse\r\n\r\n\
         --changesetresponse\r\nContent-Type: application/http\r\n\r\n\
         HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\r\n{}\r\n\
         --changesetresponse--\r\n--batchresponse--\r\n",
        table_error_body(code)
    );
    let mut answer = answered(StatusCode::ACCEPTED, "", body);
    let kind = "multipart/mixed; boundary=batchresponse".parse().unwrap();
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
