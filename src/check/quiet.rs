//! ESET tenants of which little is seen: a user who may see nothing looks like a tenant where nothing
//! happens.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    core::{
        mapping::columns,
        position::{
            cursor::Slice,
            paging::Page,
            window::{Window, delta},
        },
        protocol::endpoint::Endpoint,
    },
    io::{clock::Clock, exchange::Reply, retry::Limits},
    pipeline::{self, Job},
    source::eset,
};

use super::Findings;

/// How far back is looked.
const SPAN: Duration = Duration::from_hours(14 * 24);

/// From how many detections on some incident would be expected.
const MANY: u64 = 50;

/// Records of two weeks by connection and stream, as far as the first page holds them.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, Vec<(&'static Endpoint, u64)>>);

impl Seen {
    /// Asks for two weeks of a stream, if it is one of ESET's. What is refused is for others to tell.
    pub(super) async fn look(&mut self, job: &Job, limits: &Limits, clock: &dyn Clock) {
        let endpoint = job.source.endpoint();
        let tells_of_time = endpoint.snapshot.is_none();
        if endpoint.provider != eset::PROVIDER || !tells_of_time {
            return;
        }
        let to = clock.now();
        let slice = Slice::Window(Window {
            from: to - delta(SPAN),
            to,
        });
        let Ok((Reply::Answer(response), records)) =
            job.source.page(&slice, &Page::First, limits).await
        else {
            return;
        };
        let looked = pipeline::look_through(job, slice, response, records, limits, clock).await;
        if let Ok(count) = looked {
            let connection = self.0.entry(job.key.connection.clone()).or_default();
            connection.push((endpoint, count));
        }
    }

    /// Says what is strange about it.
    pub(super) fn tell(&self, findings: &mut Findings<'_>) {
        for (connection, streams) in &self.0 {
            let (incidents, detections): (Vec<_>, Vec<_>) = streams
                .iter()
                .partition(|(endpoint, _)| endpoint.table.name == columns::INCIDENTS.name);
            let count = |of: &[&(&Endpoint, u64)]| of.iter().map(|(_, count)| count).sum::<u64>();
            let detected = count(&detections);
            if detected + count(&incidents) == 0 {
                let text = "no record of the last two weeks is seen in any stream: either nothing \
                            happened, or the API user may see nothing: give it read rights for the \
                            groups that hold the devices";
                findings.note(connection, text);
                continue;
            }
            for (endpoint, _) in incidents.iter().filter(|(_, count)| *count == 0) {
                if detected < MANY {
                    continue;
                }
                let text = format!(
                    "no incident of the last two weeks beside {detected} detections or more: Inspect \
                     connectors older than 3.0 make none since Inspect became a part of PROTECT: \
                     update them, or take `inspect` out of `ESET_PRODUCTS` where nobody has it"
                );
                findings.note(&format!("{connection}/{}", endpoint.stream), &text);
            }
        }
    }
}
