//! The export of software vulnerabilities: a list of files, each behind a link that is a secret and
//! lives for hours. Links are held in memory, and asked for again when they are too old.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Connection, EXPORT, FILES, get, links::admits};
use crate::{
    core::{position::paging::FilePage, protocol::odata::ErrorDialect},
    error::{Error, Result},
    io::{
        exchange::{ApiRequest, Reply},
        http::Response,
        retry::Limits,
        retry::RetryBudget,
    },
};

/// How often an answer without a body is asked for again.
const EMPTY: u32 = 2;

#[derive(Clone)]
struct Export {
    generated: String,
    links: Vec<SecretString>,
}

/// The export that was asked for last.
#[derive(Default)]
pub(super) struct Exports(Mutex<Option<Export>>);

/// What came of asking for the links.
enum LinksAnswer {
    Export(Export),
    Other(Reply),
}

impl Exports {
    /// The list of files, without their links, or one file.
    pub(super) async fn page(
        &self,
        connection: &Connection,
        question: &ApiRequest,
        file: Option<&FilePage>,
        limits: &Limits,
    ) -> Result<Reply> {
        let Some(file) = file else {
            return Ok(match self.ask(connection, question, limits).await? {
                LinksAnswer::Export(export) => Reply::Answer(listing(&export)),
                LinksAnswer::Other(reply) => reply,
            });
        };
        let held = self.held();
        let was_held = held.is_some();
        let mut export = match held {
            Some(export) => export,
            None => match self.ask(connection, question, limits).await? {
                LinksAnswer::Export(export) => export,
                LinksAnswer::Other(reply) => return Ok(reply),
            },
        };
        let mut renewed = !was_held;
        loop {
            let Some(link) = link(&export, file) else {
                if !renewed {
                    // What is held is of another pass.
                    export = match self.ask(connection, question, limits).await? {
                        LinksAnswer::Export(export) => export,
                        LinksAnswer::Other(reply) => return Ok(reply),
                    };
                    renewed = true;
                    continue;
                }
                return Ok(Reply::PositionRefused(
                    "the export was written anew since".to_owned().into(),
                ));
            };
            let link = link.expose_secret().to_owned();
            let download = get(&question.name, link, ErrorDialect::File, true);
            match connection.ask(FILES, &download, limits).await? {
                Reply::PositionRefused(what) if renewed => {
                    let error = Error::transient(format!(
                        "{}: the link to a file of the export is refused ({what}); the next run goes \
                         on from here",
                        question.name
                    ));
                    return Err(what.explains(error));
                }
                Reply::PositionRefused(what) => {
                    tracing::info!(%what, "the links of the export are too old; asking for new ones");
                    export = match self.ask(connection, question, limits).await? {
                        LinksAnswer::Export(export) => export,
                        LinksAnswer::Other(reply) => return Ok(reply),
                    };
                    renewed = true;
                }
                reply => return Ok(reply),
            }
        }
    }

    fn held(&self) -> Option<Export> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// Asks for the links. The service sometimes answers with nothing at all.
    async fn ask(
        &self,
        connection: &Connection,
        question: &ApiRequest,
        limits: &Limits,
    ) -> Result<LinksAnswer> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ExportBody {
            #[serde(default)]
            export_files: Vec<SecretString>,
            generated_time: String,
            #[serde(default, rename = "@odata.nextLink", alias = "odata.nextLink")]
            next_link: Option<String>,
        }
        let wire = connection.wire();
        let mut budget = RetryBudget::new(&*wire.clock, &wire.random, limits.deadline, EMPTY + 1);
        let (mut question, mut links) = (question.clone(), Vec::new());
        let mut pages = HashSet::new();
        loop {
            let response = match connection.ask(EXPORT, &question, limits).await? {
                Reply::Answer(response) => response,
                other => return Ok(LinksAnswer::Other(other)),
            };
            let body = response.whole_body().await;
            let body = body.map_err(|error| {
                Error::transient(format!("{}: the list of files: {error}", question.name))
            })?;
            if body.iter().all(u8::is_ascii_whitespace) {
                let Ok(wait) = budget.failed(None) else {
                    return Err(Error::transient(format!(
                        "{}: the service answered with nothing; the next run tries again",
                        question.name
                    )));
                };
                wire.clock.sleep(wait).await;
                continue;
            }
            let body: ExportBody = serde_json::from_slice(&body).map_err(|_| {
                // Not the error's own text, which may quote a link.
                Error::contract(format!(
                    "{}: the list of files is not as documented",
                    question.name
                ))
            })?;
            links.extend(body.export_files);
            if let Some(link) = body.next_link.filter(|link| !link.is_empty()) {
                // Files that are not read would be vulnerabilities that nobody hears of.
                if !pages.insert(link.clone()) || !admits(connection.account.url(EXPORT), &link) {
                    return Err(Error::contract(format!(
                        "{}: the list of files goes on where nobody may follow",
                        question.name
                    )));
                }
                question = get(&question.name, link, ErrorDialect::List, false);
                continue;
            }
            let export = Export {
                generated: body.generated_time,
                links,
            };
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *held = Some(export.clone());
            return Ok(LinksAnswer::Export(export));
        }
    }
}

/// The link of a file, if it is still the same export.
fn link<'e>(export: &'e Export, file: &FilePage) -> Option<&'e SecretString> {
    let same = export.generated == file.generated && export.links.len() == file.files;
    export.links.get(file.file).filter(|_| same)
}

/// The answer as it goes on from here: with as many files, and no links.
fn listing(export: &Export) -> Response {
    let files = vec![Value::Null; export.links.len()];
    let body = json!({ "generatedTime": export.generated, "exportFiles": files });
    let body = Bytes::from(body.to_string());
    Response {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Box::pin(stream::once(async { Ok(body) })),
    }
}
