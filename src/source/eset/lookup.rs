//! Enrichment: what the lists leave out: details of detections, names of devices, links of incidents.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CLOUD_OFFICE, Connection, get,
    listed::{has_all_of, is_due, is_worth_a_look, span},
};
use crate::{
    core::{
        json::{array_splitter::ArraySplitter, record::JsonObject},
        mapping::enrichment::{EnrichRequest, Enrichment, OwnedObject},
        position::{
            cursor::{Listed, Slice},
            paging::{Frame, Page},
            record_key::RecordMeta,
            window::Window,
        },
        protocol::request::{encode, page_query},
    },
    error::{Error, Kind, Result},
    io::{
        exchange::{ApiRequest, Reply, RequestOptions},
        retry::Limits,
    },
    source::Enriched,
};

/// The most ids of one batch: above it the service may answer 500
/// (`help.eset.com/eset_connect`, v2 detections batchGet).
const BATCH: usize = 100;

/// When so many detections are refused one by one and none is answered, the service has no details.
const REFUSED_SINGLES: u32 = 3;

/// After this long a service is asked again for what it does not have.
const ASK_AGAIN: TimeDelta = TimeDelta::hours(6);

/// How many single reads are under way at once; the rate limit spaces them.
const AT_ONCE: usize = 4;

/// The most devices whose names are held.
const MAX_DEVICES: usize = 50_000;

/// A list that did not answer for so long had its chance.
const HAD_ITS_CHANCE: TimeDelta = TimeDelta::seconds(20);

/// Details that a list carries, and what was found out about it.
#[derive(Default)]
struct ListDetails {
    found: HashMap<String, OwnedObject>,
    listed: Option<Listed>,
}

/// A look-up that is left alone for a while.
#[derive(Default)]
pub(super) struct Pause(Mutex<Option<DateTime<Utc>>>);

impl Pause {
    fn is_on(&self, now: DateTime<Utc>) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    fn until(&self, time: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }
}

/// What came of asking for something small.
enum Small {
    Body(Bytes),
    /// Not to be had by this account.
    Forbidden(String),
    /// Not to be had like this.
    Refused(String),
}

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
        records: &[EnrichRequest<'_>],
        limits: &Limits,
    ) -> Enriched {
        let reads: Vec<_> = records
            .iter()
            .map(|request| self.incident(request.facts, limits))
            .collect();
        let mut answers = stream::iter(reads).buffered(AT_ONCE);
        let mut enriched = Enriched::default();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(found) => enriched.found.push(found),
                Err(error) => {
                    enriched.stopped = Some(error);
                    break;
                }
            }
        }
        enriched
    }

    async fn incident(&self, facts: &RecordMeta, limits: &Limits) -> Result<Enrichment> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            incident: Option<&'a RawValue>,
        }
        let path = format!("/v2/incidents/{}", encode(&facts.id));
        let url = self.account.url("incident-management", &path);
        let question = get("eset.incidents", url, false);
        let body = match self.small(&question, limits).await {
            Ok(Small::Body(body)) => body,
            Err(error) if error.kind() != Kind::Contract => return Err(error),
            without => {
                let why = match without {
                    Ok(Small::Forbidden(what) | Small::Refused(what)) => what,
                    Ok(Small::Body(_)) => String::new(),
                    Err(error) => error.to_string(),
                };
                tracing::info!("eset.incidents: {why}; the row goes on without it");
                return Ok(Enrichment {
                    missing: true,
                    ..Enrichment::default()
                });
            }
        };
        let answer: Answer<'_> = serde_json::from_slice(&body).map_err(|error| {
            Error::contract(format!(
                "eset.incidents: an incident is not as documented: {error}"
            ))
        })?;
        let details = answer.incident.and_then(OwnedObject::of);
        Ok(Enrichment {
            missing: details.is_none(),
            details,
            device_name: None,
        })
    }

    /// The v2 shape and the device's name of detections, as far as they can be had. Each may take
    /// half of the time that is left; one that gets no answer in it is not asked again in this run.
    pub(super) async fn detections(
        &self,
        records: &[EnrichRequest<'_>],
        wanted: bool,
        known: Option<Listed>,
        limits: &Limits,
    ) -> Enriched {
        let mut looked: Vec<Enrichment> = vec![Enrichment::default(); records.len()];
        let mut listed = None;
        if wanted {
            let mut details = self.listed_details(records, known, limits).await;
            let ids = records.iter().map(|request| request.facts.id.as_str());
            let left: Vec<&str> = ids
                .clone()
                .filter(|id| !details.found.contains_key(*id))
                .collect();
            if !left.is_empty() && !self.no_details.is_on(self.now()) {
                details.found.extend(self.details(&left, limits).await);
            }
            for (looked, id) in looked.iter_mut().zip(ids) {
                looked.details = details.found.remove(id);
            }
            listed = details.listed;
        }
        for looked in &mut looked {
            looked.missing = wanted && looked.details.is_none();
        }
        if self.account.look_ups.devices {
            self.name_devices(records, &mut looked, limits).await;
        }
        Enriched {
            found: looked,
            stopped: None,
            listed,
        }
    }

    /// Details that the v2 list carries, where that takes fewer calls than to ask for each.
    async fn listed_details(
        &self,
        records: &[EnrichRequest<'_>],
        known: Option<Listed>,
        run: &Limits,
    ) -> ListDetails {
        let mut from_list = ListDetails::default();
        let now = self.now();
        let Some(span) = span(records).filter(|_| is_worth_a_look(known, now)) else {
            return from_list;
        };
        let ids = records.iter().map(|request| request.facts.id.as_str());
        let mut left: Vec<&str> = ids.collect();
        let limits = self.half(run);
        let mut walk = self.walk.lock().await;
        walk.enter(
            span,
            *self.reads.lock().unwrap_or_else(PoisonError::into_inner),
        );
        walk.take(&mut left, &mut from_list.found);
        let mut has_asked = false;
        while let Some((window, page)) = walk.wanted(left.len(), BATCH) {
            has_asked = true;
            match self.list_page(window, page, &limits).await {
                Ok(Some((details, frame))) => {
                    walk.add(details_by_id(details).collect(), frame.next_page());
                    walk.take(&mut left, &mut from_list.found);
                }
                // The page token is forgotten: what is left is asked for by id.
                Ok(None) if !page.is_first() => walk.end(),
                Ok(None) => {
                    walk.end();
                    from_list.listed = Some(Listed {
                        carried: false,
                        at: now,
                    });
                    return from_list;
                }
                Err(error) => {
                    tracing::info!(%error, "details are asked for by id");
                    walk.end();
                    // Unless the run was about to end anyway, nobody waits for it again today.
                    let had_its_chance = limits.deadline - now > HAD_ITS_CHANCE;
                    from_list.listed =
                        (had_its_chance && !run.stop.is_cancelled()).then_some(Listed {
                            carried: false,
                            at: now,
                        });
                    return from_list;
                }
            }
        }
        drop(walk);
        if has_asked && is_due(known, now) {
            self.judge(records.len(), &mut from_list, run).await;
        }
        from_list
    }

    /// Finds out whether the list carries the detections, and as much of each as can be had by id.
    async fn judge(&self, asked: usize, from_list: &mut ListDetails, run: &Limits) {
        let found = &mut from_list.found;
        let at = self.now();
        if found.len() * 2 < asked {
            from_list.listed = Some(Listed { carried: false, at });
            return;
        }
        let some: Vec<String> = found.keys().take(BATCH).cloned().collect();
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let whole = self.details(&some, run).await;
        if whole.is_empty() {
            // There is nothing to compare with, and nothing better.
            return;
        }
        let is_less = |(id, whole): (&String, &OwnedObject)| {
            let listed = found.get(id);
            listed.is_some_and(|listed| !has_all_of(&listed.members(), &whole.members()))
        };
        let carried = !whole.iter().any(is_less);
        if !carried {
            found.clear();
        }
        found.extend(whole);
        from_list.listed = Some(Listed { carried, at });
    }

    /// A page of the v2 list; `None` when the service refuses it.
    async fn list_page(
        &self,
        window: Window,
        page: &Page,
        limits: &Limits,
    ) -> Result<Option<(Vec<OwnedObject>, Frame)>> {
        let (query, _) = page_query(&CLOUD_OFFICE, &Slice::Window(window), page);
        let url = self.account.url(CLOUD_OFFICE.domain, &query);
        let question = get("eset.detections details", url, !page.is_first());
        match self.small(&question, limits).await? {
            Small::Body(body) => listed(&body).map(Some),
            Small::Forbidden(what) | Small::Refused(what) => {
                tracing::debug!(what, "the list of details is refused");
                Ok(None)
            }
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.asker.clock().now()
    }

    /// Until when look-ups of a run may go on: what they leave is the rows'.
    fn half(&self, limits: &Limits) -> Limits {
        let now = self.now();
        Limits {
            deadline: now + (limits.deadline - now) / 2,
            ..limits.clone()
        }
    }

    /// The batch is atomic: one id that the service does not know fails all, so that a refused batch
    /// is asked for in halves.
    async fn details(&self, ids: &[&str], run: &Limits) -> HashMap<String, OwnedObject> {
        let limits = self.half(run);
        let mut found = HashMap::new();
        let mut refused = 0;
        let mut open: Vec<&[&str]> = ids.chunks(BATCH).rev().collect();
        while let Some(ids) = open.pop() {
            let body = serde_json::json!({ "detectionUuids": ids }).to_string();
            let question = ApiRequest {
                name: "eset.detections details".to_owned(),
                method: Method::POST,
                url: self
                    .account
                    .url("incident-management", "/v2/detections:batchGet"),
                body: Some(("application/json", body.into())),
                has_position: false,
                manner: RequestOptions::default(),
            };
            match self.small(&question, &limits).await {
                Ok(Small::Body(body)) => {
                    let details = listed(&body).map(|(details, _)| details);
                    found.extend(details_by_id(details.unwrap_or_default()));
                }
                Ok(Small::Forbidden(what)) => {
                    self.give_up(&self.no_details, "details of detections", &what);
                    break;
                }
                Ok(Small::Refused(_)) if ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    open.push(second);
                    open.push(first);
                }
                Ok(Small::Refused(_)) => {
                    refused += 1;
                    if found.is_empty() && refused == REFUSED_SINGLES {
                        let why = format!("{refused} detections were refused one by one");
                        self.give_up(&self.no_details, "details of detections", &why);
                        break;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, "this run's rows go on without details");
                    self.no_details.until(run.deadline);
                    break;
                }
            }
        }
        found
    }

    async fn name_devices(
        &self,
        records: &[EnrichRequest<'_>],
        looked: &mut [Enrichment],
        limits: &Limits,
    ) {
        let devices: Vec<Option<String>> = records
            .iter()
            .zip(looked.iter())
            .map(|(request, looked)| unnamed_device(&request.record, looked.details.as_ref()))
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
            if self.no_devices.is_on(self.now()) {
                break;
            }
            self.read_devices(ids, limits).await;
        }
        for (looked, id) in looked.iter_mut().zip(devices) {
            let Some(id) = id else { continue };
            looked.device_name = self.devices.get(&id).filter(|name| !name.is_empty());
            looked.missing |= looked.device_name.is_none();
        }
    }

    async fn read_devices(&self, ids: &[&str], run: &Limits) {
        let query: Vec<String> = ids
            .iter()
            .map(|id| format!("devicesUuids={}", encode(id)))
            .collect();
        let path = format!("/v1/devices:batchGet?{}", query.join("&"));
        let url = self.account.url("device-management", &path);
        let question = get("eset.devices", url, false);
        match self.small(&question, &self.half(run)).await {
            Ok(Small::Body(body)) => {
                let mut names: HashMap<String, String> = ids
                    .iter()
                    .map(|id| ((*id).to_owned(), String::new()))
                    .collect();
                names.extend(device_names(&body));
                self.devices.put(names);
            }
            Ok(Small::Forbidden(what) | Small::Refused(what)) => {
                self.give_up(&self.no_devices, "names of devices", &what);
            }
            Err(error) => {
                tracing::info!(%error, "this run's rows go on without names of devices");
                self.no_devices.until(run.deadline);
            }
        }
    }

    /// A small answer, its body included; a body that breaks off is asked for once more.
    async fn small(&self, question: &ApiRequest, limits: &Limits) -> Result<Small> {
        let mut broken = false;
        loop {
            let response = match self.asker.ask(question, limits).await? {
                Reply::Answer(response) => response,
                Reply::Forbidden(what) => return Ok(Small::Forbidden(what.to_string())),
                Reply::PositionRefused(what)
                | Reply::TooLarge(what)
                | Reply::UsedUp(what)
                | Reply::NotOffered(what)
                | Reply::NotThere(what)
                | Reply::Unexpected(what, _) => return Ok(Small::Refused(what.to_string())),
            };
            match self.asker.whole_body(question, response, limits).await {
                Err(error) if !broken => {
                    tracing::debug!(%error, "asking again");
                    broken = true;
                }
                end => return end.map(Small::Body),
            }
        }
    }

    /// Says that something is not to be had, and asks again some hours later.
    fn give_up(&self, pause: &Pause, what: &str, why: &str) {
        tracing::info!(
            "{what} are not to be had ({why}); rows go on without them for some hours, \
             `ESET_ENRICH` turns the attempt off"
        );
        pause.until(self.now() + ASK_AGAIN);
    }
}

/// The objects of an answer's list, and what stands beside it.
fn listed(body: &[u8]) -> Result<(Vec<OwnedObject>, Frame)> {
    let mut full = Vec::new();
    let mut cutter = ArraySplitter::new("detections").in_chunks_of(body.len());
    cutter.feed(body, &mut full)?;
    let (last, frame) = cutter.finish::<Frame>()?;
    let chunks = full.into_iter().chain([last]);
    Ok((chunks.flat_map(OwnedObject::all_of).collect(), frame))
}

/// The details of an answer, by the id of their detection.
fn details_by_id(details: Vec<OwnedObject>) -> impl Iterator<Item = (String, OwnedObject)> {
    details.into_iter().filter_map(|detail| {
        let id = detail.members().text("uuid")?.into_owned();
        Some((id, detail))
    })
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
            let device = JsonObject::of_value(device)?;
            Some((
                device.text("uuid")?.into_owned(),
                device.text("displayName")?.into_owned(),
            ))
        })
        .collect()
}

/// The id of the device that a record names by nothing else.
fn unnamed_device(record: &JsonObject<'_>, details: Option<&OwnedObject>) -> Option<String> {
    let details = details.map(OwnedObject::members);
    let mut id = None;
    for members in [Some(record), details.as_ref()].into_iter().flatten() {
        let inner = |name| members.get(name).and_then(JsonObject::of_value);
        let device = inner("device");
        if device
            .as_ref()
            .is_some_and(|device| device.get("displayName").is_some())
        {
            return None;
        }
        let own = device.and_then(|device| Some(device.text("uuid")?.into_owned()));
        let context = || Some(inner("context")?.text("deviceUuid")?.into_owned());
        id = id.or(own).or_else(context);
    }
    id
}
