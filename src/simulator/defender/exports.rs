//! Vulnerable software by machine: the whole as JSON or as files, and what has changed.

use std::sync::Arc;

use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use super::{
    Bends, Outcome, errors, list,
    query::{Query, Rules},
};
use crate::simulator::{
    Inner,
    answer::{Answer, Content, Incoming},
    bulk::Made,
    kind::Kind,
    listing::Lines,
    seal::{Use, open, seal},
    target::Target,
    world::{
        defender::{parse, published, snapshot_of, snapshot_time},
        lane::{DAY, HOUR, SECOND},
    },
};

const CHANGES_OF: &str = "Collection(microsoft.windowsDefenderATP.api.DeltaAssetVulnerability)";

const SOFTWARE: Rules = Rules {
    target: Target::DefenderSoftware,
    also: &["pageSize", "$skiptoken"],
    filter: &[],
    top: 200_000,
    skip: 0,
    clamps: false,
};
const CHANGES: Rules = Rules {
    target: Target::DefenderChanges,
    also: &["sinceTime", "pageSize", "$skiptoken"],
    ..SOFTWARE
};
const DEFAULT_PAGE: usize = 50_000;

/// Changes are kept for this long.
const KEPT: i64 = 14 * DAY;

impl Inner {
    /// `GET /api/machines/SoftwareVulnerabilitiesByMachine`.
    pub(super) fn software(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let query = Query::parse(self.options.seed, incoming, &SOFTWARE, bends)?;
        let (size, start) = (page_size(&query, bends)?, Self::position(&query)?);
        let [snapshot, start] = start.unwrap_or([published(now).unsigned_abs(), 0]);
        let snapshot = snapshot.cast_signed();
        let machines = self.world.defender().estate().machines;
        let skip = usize::try_from(start).unwrap_or(usize::MAX);
        let rest = self.world.defender().findings(0..machines, snapshot);
        let count = rest.skip(skip).take(size.saturating_add(1)).count();
        let more = count > size && !query.has_top;
        let count = count.min(size);
        let next = more.then(|| {
            let words = [snapshot.unsigned_abs(), start + count as u64];
            list::next_link(incoming, &query.token(&words))
        });
        let world = Arc::clone(&self.world);
        let records = owned(move |from: &mut u64| {
            let defender = world.defender();
            let machine = *from;
            *from += 1;
            (machine < machines).then(|| {
                let of_machine = defender.findings(machine..machine + 1, snapshot);
                of_machine.collect::<Vec<_>>()
            })
        });
        let world = Arc::clone(&self.world);
        let records = records
            .skip(skip)
            .take(count)
            .map(move |finding| world.defender().finding_record(finding, snapshot));
        let kind = "Collection(microsoft.windowsDefenderATP.api.AssetVulnerability)";
        Ok(list::value(incoming, kind, count, Box::new(records), next))
    }

    /// `GET /api/machines/SoftwareVulnerabilityChangesByMachine`.
    pub(super) fn software_changes(&self, incoming: &Incoming, now: i64, bends: &Bends) -> Outcome {
        let query = Query::parse(self.options.seed, incoming, &CHANGES, bends)?;
        let bad = |code: &str, message: &str| errors::api(StatusCode::BAD_REQUEST, code, message);
        let Some(since) = query.get("sinceTime") else {
            let message = "The required parameter 'sinceTime' is missing.";
            return Err(bad("MissingRequiredParameter", message));
        };
        if let Some(Made::Export(_)) = self.made() {
            return Ok(list::value(
                incoming,
                CHANGES_OF,
                0,
                Box::new(std::iter::empty()),
                None,
            ));
        }
        // A day alone is taken for its beginning.
        let since = parse(since).or_else(|| parse(&format!("{since}T00:00:00Z")));
        let since = since.ok_or_else(|| bad("InvalidInput", "'sinceTime' is not valid."))?;
        if since < now - KEPT {
            return Err(too_old());
        }
        let (size, start) = (page_size(&query, bends)?, Self::position(&query)?);
        let first = snapshot_of(since).unsigned_abs();
        let late = i64::from(bends.has(Kind::LateBucket));
        let last = (published(now) - late).unsigned_abs();
        let [last, snapshot, start] = start.unwrap_or([last, first, 0]);
        let skip = usize::try_from(start).unwrap_or(usize::MAX);

        // Where the page ends: so many changes into which snapshot.
        let defender = self.world.defender();
        let (mut at, mut before, mut count) = (snapshot, skip, 0);
        let mut next = None;
        while at <= last {
            let left = size - count;
            let found = defender.changes(at.cast_signed()).skip(before);
            let found = found.take(left.saturating_add(1)).count();
            if found > left {
                count = size;
                next = Some([last, at, (before + left) as u64]);
                break;
            }
            count += found;
            (at, before) = (at + 1, 0);
        }
        let next = next
            .filter(|_| !query.has_top)
            .map(|words| list::next_link(incoming, &query.token(&words)));
        let machines = defender.estate().machines;
        let world = Arc::clone(&self.world);
        let changes = owned(move |from: &mut u64| {
            let (snapshot, machine) = (snapshot + *from / machines.max(1), *from % machines.max(1));
            *from += 1;
            (snapshot <= last).then(|| {
                let changes = world
                    .defender()
                    .changes_of_machine(machine, snapshot.cast_signed());
                changes
                    .map(|change| (change, snapshot.cast_signed()))
                    .collect::<Vec<_>>()
            })
        });
        let world = Arc::clone(&self.world);
        let records = changes
            .skip(skip)
            .take(count)
            .map(move |(change, snapshot)| world.defender().change_record(change, snapshot));
        Ok(list::value(
            incoming,
            CHANGES_OF,
            count,
            Box::new(records),
            next,
        ))
    }

    /// `GET /api/machines/SoftwareVulnerabilitiesExport`: links to files.
    pub(super) fn export(&self, incoming: &Incoming, now: i64) -> Outcome {
        let hours = match incoming.parameter("sasValidHours").map(str::parse) {
            None => 1,
            Some(Ok(hours @ 1..=6)) => hours,
            Some(_) => {
                let message = "'sasValidHours' must be a number from 1 to 6.";
                return Err(errors::api(
                    StatusCode::BAD_REQUEST,
                    "InvalidInput",
                    message,
                ));
            }
        };
        let snapshot = published(now);
        let time = DateTime::from_timestamp_nanos(snapshot_time(snapshot));
        let expiry = now + hours * HOUR;
        let second = |time: i64| {
            let time = DateTime::from_timestamp_nanos(time);
            time.to_rfc3339_opts(SecondsFormat::Secs, true)
                .replace(':', "%3A")
        };
        let (origin, folder) = (&incoming.origin, time.format("%Y-%m-%d/%H%M"));
        let files: Vec<String> = (0..self.files())
            .map(|part| {
                let words = [
                    snapshot.unsigned_abs(),
                    part,
                    (expiry / SECOND).unsigned_abs(),
                ];
                let signature = seal(self.options.seed, Use::Link, &words);
                format!(
                    "{origin}/tvm-export/{folder}/part-{part:05}.json.gz?sv=2023-11-03&st={}&se={}\
                     &sr=b&sp=r&sig={signature}",
                    second(now - HOUR / 12),
                    second(expiry)
                )
            })
            .collect();
        Ok(Answer::ok(json!({
            "@odata.context": format!("{origin}/defender/api/$metadata#microsoft.windowsDefenderATP.api.ExportFilesResponse"),
            "exportFiles": files,
            "generatedTime": time.to_rfc3339_opts(SecondsFormat::Secs, true),
        })))
    }

    /// A file of the export: gzip over one object a line.
    pub(super) fn file(&self, path: &str, incoming: &Incoming, now: i64) -> Outcome {
        if incoming.header("authorization").is_some() {
            return Err(errors::forbidden_blob(""));
        }
        let signature = incoming.parameter("sig").unwrap_or_default();
        let words = open(self.options.seed, Use::Link, signature);
        let Some([snapshot, part, expiry]) = words else {
            return Err(errors::forbidden_blob("Signature did not match"));
        };
        let snapshot = snapshot.cast_signed();
        let time = DateTime::from_timestamp_nanos(snapshot_time(snapshot));
        if path != format!("{}/part-{part:05}.json.gz", time.format("%Y-%m-%d/%H%M")) {
            return Err(errors::forbidden_blob("Signature did not match"));
        }
        if expiry.cast_signed() <= now / SECOND {
            return Err(errors::expired_link());
        }
        if let Some(Made::Export(bulk)) = self.made() {
            return Ok(Answer::written(bulk.file(part)));
        }
        let defender = self.world.defender();
        let machines = defender.estate().machines;
        let each = machines.div_ceil(self.files()).max(1);
        let (from, to) = (
            (part * each).min(machines),
            ((part + 1) * each).min(machines),
        );
        let count = defender.findings(from..to, snapshot).count();
        let world = Arc::clone(&self.world);
        let findings = owned(move |next: &mut u64| {
            let machine = from + *next;
            *next += 1;
            let defender = world.defender();
            (machine < to).then(|| {
                defender
                    .findings(machine..machine + 1, snapshot)
                    .collect::<Vec<_>>()
            })
        });
        let world = Arc::clone(&self.world);
        let records =
            findings.map(move |finding| pascal(world.defender().finding_record(finding, snapshot)));
        Ok(Answer {
            content: Content::Gzip(Lines {
                count,
                records: Box::new(records),
            }),
            ..Answer::status(StatusCode::OK)
        })
    }

    /// How many files an export has.
    fn files(&self) -> u64 {
        if let Some(Made::Export(bulk)) = self.made() {
            return bulk.files();
        }
        let estate = self.world.defender().estate();
        estate
            .machines
            .div_ceil(estate.machines_per_file.max(1))
            .max(2)
    }

    fn position<const N: usize>(query: &Query) -> Result<Option<[u64; N]>, Answer> {
        query.position().map_err(|()| {
            errors::api(
                StatusCode::BAD_REQUEST,
                "InvalidInput",
                "The $skiptoken is not valid.",
            )
        })
    }
}

/// 400 for changes that are no longer kept.
pub(super) fn too_old() -> Answer {
    let message = "'sinceTime' must lie within the last 14 days.";
    errors::api(StatusCode::BAD_REQUEST, "InvalidInput", message)
}

/// `pageSize`, or `$top` when there is one.
fn page_size(query: &Query, bends: &Bends) -> Result<usize, Answer> {
    if query.has_top {
        return Ok(query.size);
    }
    let asked = match query.get("pageSize").map(str::parse::<usize>) {
        None => DEFAULT_PAGE,
        Some(Ok(size @ 1..=200_000)) => size,
        Some(_) => {
            let message = "'pageSize' must be a number from 1 to 200000.";
            return Err(errors::api(
                StatusCode::BAD_REQUEST,
                "InvalidInput",
                message,
            ));
        }
    };
    Ok(asked.min(usize::try_from(bends.page_size).unwrap_or(usize::MAX)))
}

/// The items of batch after batch, made as they are asked for.
fn owned<T: Send>(
    batch: impl FnMut(&mut u64) -> Option<Vec<T>> + Send,
) -> impl Iterator<Item = T> + Send {
    let mut batch = batch;
    let mut at = 0;
    std::iter::from_fn(move || batch(&mut at)).flatten()
}

/// Names of the export's files that a capital alone does not make, as captures have them.
const FILE_NAMES: [(&str, &str); 3] = [
    ("osPlatform", "OSPlatform"),
    ("osVersion", "OSVersion"),
    ("osArchitecture", "OSArchitecture"),
];

/// The same record with the names that files have.
pub(in crate::simulator) fn pascal(record: Value) -> Value {
    let Value::Object(members) = record else {
        return record;
    };
    let upper = |name: String| {
        if let Some((_, written)) = FILE_NAMES.iter().find(|(list, _)| *list == name) {
            return (*written).to_owned();
        }
        let mut letters = name.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let members = members
        .into_iter()
        .map(|(name, value)| (upper(name), value));
    Value::Object(members.collect::<Map<_, _>>())
}
