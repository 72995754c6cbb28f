//! What the lists leave out: details of detections, names of devices, links of incidents.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Connection, get};
use crate::{
    core::{record::Members, request::encode},
    error::{Error, Kind, Result},
    io::exchange::{Limits, Manner, Question, Reply},
    source::{LookedUp, Subject},
};

/// The most ids of one batch: above it the service may answer 500
/// (`help.eset.com/eset_connect`, v2 detections batchGet).
const BATCH: usize = 100;

/// When so many detections are refused one by one and none is answered, the service has no details.
const REFUSED_SINGLES: u32 = 3;

/// How many single reads are under way at once; the rate limit spaces them.
const AT_ONCE: usize = 4;

/// The most devices whose names are held.
const MAX_DEVICES: usize = 50_000;

/// Names of devices by id; an empty one for a device that the service does not know.
#[derive(Default)]
pub(super) struct Devices(Mutex<HashMap<String, String>>);

impl Devices {
    fn get(&self, id: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    fn put(&self, names: HashMap<String, String>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() > MAX_DEVICES {
            held.clear();
        }
        held.extend(names);
    }
}

impl Connection {
    /// The links of incidents, which belong to the record: without an answer it must wait, unless
    /// the service says that there is none.
    pub(super) async fn incidents(
        &self,
        records: &[Subject],
        limits: &Limits,
    ) -> Result<Vec<LookedUp>> {
        let reads: Vec<_> = records
            .iter()
            .map(|record| self.incident(record, limits))
            .collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    async fn incident(&self, record: &Subject, limits: &Limits) -> Result<LookedUp> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            incident: Option<&'a RawValue>,
        }
        let path = format!("/v2/incidents/{}", encode(&record.facts.id));
        let url = self.account.url("incident-management", &path);
        let question = get("eset.incidents", url, false);
        let Some(body) = self.body(&question, limits).await? else {
            return Ok(LookedUp {
                missing: true,
                ..LookedUp::default()
            });
        };
        let answer: Answer<'_> = serde_json::from_slice(&body).map_err(|error| {
            Error::contract(format!(
                "eset.incidents: an incident is not as documented: {error}"
            ))
        })?;
        let details = answer
            .incident
            .map(|incident| incident.get().as_bytes().to_vec());
        Ok(LookedUp {
            missing: details.is_none(),
            details,
            device_name: None,
        })
    }

    /// The v2 shape and the device's name of detections, as far as they can be had in half of the
    /// time that is left.
    pub(super) async fn detections(
        &self,
        records: &[Subject],
        with_details: bool,
        limits: &Limits,
    ) -> Vec<LookedUp> {
        let now = self.asker.clock().now();
        let limits = Limits {
            deadline: now + (limits.deadline - now) / 2,
            ..limits.clone()
        };
        let mut looked: Vec<LookedUp> = vec![LookedUp::default(); records.len()];
        if with_details && !self.no_details.load(Ordering::Relaxed) {
            let ids: Vec<&str> = records
                .iter()
                .map(|record| record.facts.id.as_str())
                .collect();
            let mut details = self.details(&ids, &limits).await;
            for (looked, id) in looked.iter_mut().zip(&ids) {
                looked.details = details.remove(*id);
            }
        }
        for looked in &mut looked {
            looked.missing = with_details && looked.details.is_none();
        }
        if self.account.look_ups.devices {
            self.name_devices(records, &mut looked, &limits).await;
        }
        looked
    }

    /// The batch is atomic: one id that the service does not know fails all, so that a refused batch
    /// is asked for in halves.
    async fn details(&self, ids: &[&str], limits: &Limits) -> HashMap<String, Vec<u8>> {
        let mut found = HashMap::new();
        let mut refused = 0;
        let mut open: Vec<&[&str]> = ids.chunks(BATCH).rev().collect();
        while let Some(ids) = open.pop() {
            let body = serde_json::json!({ "detectionUuids": ids }).to_string();
            let question = Question {
                name: "eset.detections details".to_owned(),
                method: Method::POST,
                url: self
                    .account
                    .url("incident-management", "/v2/detections:batchGet"),
                body: Some(("application/json", body.into())),
                has_position: false,
                manner: Manner::default(),
            };
            match self.asker.ask(&question, limits).await {
                Ok(Reply::Answer(response)) => {
                    if let Ok(body) = self.asker.whole_body(&question, response, limits).await {
                        found.extend(details_by_id(&body));
                    }
                }
                Ok(Reply::Forbidden(what)) => {
                    give_up(&self.no_details, "details of detections", &what);
                    break;
                }
                Ok(_) if ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    open.push(second);
                    open.push(first);
                }
                Ok(_) => {
                    refused += 1;
                    if found.is_empty() && refused == REFUSED_SINGLES {
                        let why = format!("{refused} detections were refused one by one");
                        give_up(&self.no_details, "details of detections", &why);
                        break;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, "rows go on without details");
                    break;
                }
            }
        }
        found
    }

    async fn name_devices(&self, records: &[Subject], looked: &mut [LookedUp], limits: &Limits) {
        let devices: Vec<Option<String>> = records
            .iter()
            .zip(looked.iter())
            .map(|(record, looked)| unnamed_device(record, looked))
            .collect();
        let mut unknown: Vec<&str> = devices
            .iter()
            .flatten()
            .filter(|id| self.devices.get(id).is_none())
            .map(String::as_str)
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        for ids in unknown.chunks(BATCH) {
            if self.no_devices.load(Ordering::Relaxed) || !self.read_devices(ids, limits).await {
                break;
            }
        }
        for (looked, id) in looked.iter_mut().zip(devices) {
            let Some(id) = id else { continue };
            looked.device_name = self.devices.get(&id).filter(|name| !name.is_empty());
            looked.missing |= looked.device_name.is_none();
        }
    }

    async fn read_devices(&self, ids: &[&str], limits: &Limits) -> bool {
        let query: Vec<String> = ids
            .iter()
            .map(|id| format!("devicesUuids={}", encode(id)))
            .collect();
        let path = format!("/v1/devices:batchGet?{}", query.join("&"));
        let url = self.account.url("device-management", &path);
        let question = get("eset.devices", url, false);
        match self.asker.ask(&question, limits).await {
            Ok(Reply::Answer(response)) => {
                let Ok(body) = self.asker.whole_body(&question, response, limits).await else {
                    return false;
                };
                let mut names: HashMap<String, String> = ids
                    .iter()
                    .map(|id| ((*id).to_owned(), String::new()))
                    .collect();
                names.extend(device_names(&body));
                self.devices.put(names);
                true
            }
            Ok(
                Reply::PositionRefused(what)
                | Reply::TooLarge(what)
                | Reply::UsedUp(what)
                | Reply::NotOffered(what)
                | Reply::Forbidden(what)
                | Reply::Unexpected(what, _),
            ) => {
                give_up(&self.no_devices, "names of devices", &what);
                false
            }
            Err(error) => {
                tracing::info!(%error, "rows go on without names of devices");
                false
            }
        }
    }

    /// A small answer's body; `None` when the service says for good that there is none.
    async fn body(&self, question: &Question, limits: &Limits) -> Result<Option<Bytes>> {
        match self.asker.ask(question, limits).await {
            Ok(Reply::Answer(response)) => {
                let body = self.asker.whole_body(question, response, limits).await?;
                Ok(Some(body))
            }
            Ok(
                Reply::PositionRefused(what)
                | Reply::TooLarge(what)
                | Reply::UsedUp(what)
                | Reply::NotOffered(what)
                | Reply::Forbidden(what)
                | Reply::Unexpected(what, _),
            ) => {
                tracing::info!("{}: {what}; the row goes on without it", question.name);
                Ok(None)
            }
            Err(error) if error.kind() == Kind::Contract => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Says once that something is not to be had.
fn give_up(switch: &AtomicBool, what: &str, why: &str) {
    if !switch.swap(true, Ordering::Relaxed) {
        tracing::info!(
            "{what} are not to be had ({why}); rows go on without them, `ESET_ENRICH` turns the \
             attempt off"
        );
    }
}

fn details_by_id(body: &[u8]) -> HashMap<String, Vec<u8>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default)]
        detections: Vec<&'a RawValue>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return HashMap::new();
    };
    answer
        .detections
        .into_iter()
        .filter_map(|detection| {
            let id = Members::of_value(detection)?.text("uuid")?.into_owned();
            Some((id, detection.get().as_bytes().to_vec()))
        })
        .collect()
}

fn device_names(body: &[u8]) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default)]
        devices: Vec<&'a RawValue>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return Vec::new();
    };
    answer
        .devices
        .into_iter()
        .filter_map(|device| {
            let device = Members::of_value(device)?;
            Some((
                device.text("uuid")?.into_owned(),
                device.text("displayName")?.into_owned(),
            ))
        })
        .collect()
}

/// The id of the device that a record names by nothing else.
fn unnamed_device(record: &Subject, looked: &LookedUp) -> Option<String> {
    let shapes = [Some(record.text.as_slice()), looked.details.as_deref()];
    let mut id = None;
    for shape in shapes.into_iter().flatten() {
        let members = Members::of(shape).ok()?;
        let inner = |name| members.get(name).and_then(Members::of_value);
        let device = inner("device");
        if device
            .as_ref()
            .is_some_and(|device| device.get("displayName").is_some())
        {
            return None;
        }
        let own = device.and_then(|device| device.text("uuid"));
        let context = inner("context").and_then(|context| context.text("deviceUuid"));
        id = id.or(own.or(context).map(std::borrow::Cow::into_owned));
    }
    id
}
