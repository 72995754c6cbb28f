//! Microsoft Defender: the API of Defender for Endpoint with the exports of vulnerability
//! management, the incidents of Defender XDR, and what Microsoft Graph knows of both.
//!
//! `…/defender` stands for the host of the API, `…/graph` for that of Graph, `…/tvm-export` for the
//! storage account of the exports.

mod access;
mod catalogue;
mod errors;
mod exports;
mod hunting;
mod list;
mod machines;
mod odata;
mod place;
mod played;
mod query;
mod quotas;
mod updates;

use super::{
    Inner,
    answer::{Answer, Incoming},
    kind::Kind,
    world::lane::{HOUR, nanos},
};

pub(super) use self::{
    errors::refusal,
    exports::pascal,
    place::Call,
    played::{could_refuse, meets, play},
    quotas::Quotas,
};

/// An answer, or the refusal of one.
type Outcome = Result<Answer, Answer>;

/// How faults bend what the service does.
#[derive(Debug)]
pub(super) struct Bends {
    /// The most records of a page.
    pub(super) page_size: u64,
    pub(super) kinds: Vec<Kind>,
}

impl Default for Bends {
    fn default() -> Self {
        Self {
            page_size: u64::MAX,
            kinds: Vec::new(),
        }
    }
}

impl Bends {
    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The most rows of an answer of advanced hunting.
    fn row_cap(&self) -> usize {
        let caps = self.kinds.iter().filter_map(|kind| match kind {
            Kind::RowCap(most) => usize::try_from(*most).ok(),
            _ => None,
        });
        caps.min().unwrap_or(usize::MAX)
    }

    /// How much time's rows are ingested at one instant.
    fn bunch(&self) -> Option<i64> {
        self.kinds.iter().find_map(|kind| match kind {
            Kind::Bunched(hours) => Some(i64::try_from(*hours).ok()? * HOUR),
            _ => None,
        })
    }
}

impl Inner {
    /// The answer to a caller who was let in.
    pub(super) fn defender(&self, call: &Call, incoming: &Incoming, bends: &Bends) -> Answer {
        let now = nanos(self.clock.now());
        let outcome = match call {
            Call::Machines => self.machines(incoming, now, bends),
            Call::Machine { id } => self.machine(id, now),
            Call::LogonUsers { id } => self.logon_users(id, now),
            Call::FindByAddress { arguments } => self.find_by_address(arguments, now),
            Call::Catalogue => self.catalogue(incoming, now, bends),
            Call::Vulnerabilities => self.machine_vulnerabilities(incoming, now, bends),
            Call::Software => self.software(incoming, now, bends),
            Call::Changes => self.software_changes(incoming, now, bends),
            Call::Export => self.export(incoming, now),
            Call::File { path } => self.file(path, incoming, now),
            Call::MdeAlerts => self.mde_alerts(incoming, now, bends),
            Call::XdrIncidents => self.xdr_incidents(incoming, now, bends),
            Call::Alerts => self.graph_alerts(incoming, now, bends),
            Call::Incidents => self.graph_incidents(incoming, now, bends),
            Call::Hunting => self.hunting(incoming, now, bends),
        };
        outcome.unwrap_or_else(|refused| refused)
    }
}
