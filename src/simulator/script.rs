//! The faults that are waiting for their call.

use std::sync::Mutex;

use super::sync::lock;
use super::{answer::Incoming, defender, fault::Fault, ingestion, kind::Kind, target::Target};

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    seen: u64,
    played: u64,
}

/// All faults, in the order they were injected.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<Vec<Waiting>>);

impl Script {
    pub(crate) fn inject(&self, fault: Fault) {
        lock(&self.0).push(Waiting {
            fault,
            seen: 0,
            played: 0,
        });
    }

    /// The faults that have met no call that they could strike.
    pub(crate) fn unplayed(&self) -> Vec<Fault> {
        let waiting = lock(&self.0);
        let unplayed = waiting.iter().filter(|waiting| waiting.played == 0);
        unplayed.map(|waiting| waiting.fault.clone()).collect()
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// The faults to play on this call; `applies` says which kinds could strike it. A kind that
    /// answers in place of the service is the last one.
    pub(crate) fn take(&self, target: Target, applies: impl Fn(Kind) -> bool) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let mut answered = false;
        for waiting in lock(&self.0).iter_mut() {
            let kind = waiting.fault.kind;
            if waiting.fault.target != target || !applies(kind) {
                continue;
            }
            waiting.seen += 1;
            let left = waiting
                .fault
                .times
                .is_none_or(|times| waiting.played < times);
            if left && waiting.seen >= waiting.fault.from && !(answered && kind.answers()) {
                waiting.played += 1;
                answered |= kind.answers();
                kinds.push(kind);
            }
        }
        kinds
    }
}

impl Kind {
    /// True when it strikes before the service looks at the call.
    pub(crate) fn is_early(self) -> bool {
        self.answers() || self.bends() || matches!(self, Self::Never | Self::Slow(_))
    }

    /// True when it changes how the service answers.
    pub(crate) fn bends(self) -> bool {
        matches!(
            self,
            Self::PageSize(_)
                | Self::Unsorted
                | Self::Ties
                | Self::Gated
                | Self::Moving
                | Self::LateBucket
                | Self::NullIngestion
                | Self::RowCap(_)
                | Self::Bunched(_)
                | Self::NoRoles
        )
    }

    /// True when it answers in place of the service.
    fn answers(self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Pending
                | Self::PendingDead
                | Self::PendingForever
                | Self::PendingNoId
                | Self::FairUse
                | Self::ExpiredDelta
                | Self::ExpiredPage
                | Self::NoDelta
                | Self::Rubbish
                | Self::EmptyOk
                | Self::WrongType
                | Self::DeadToken
                | Self::Quota(_)
                | Self::NoLicence
                | Self::MissingRole
                | Self::NotProvisioned
                | Self::SkipWall
                | Self::TopLimit(_)
                | Self::ExpandBreaks
                | Self::SinceRefused
                | Self::SasExpired
                | Self::TooBig
                | Self::Preempted
                | Self::Timeout
                | Self::CpuQuota
                | Self::UnknownTable
        )
    }

    /// True when it changes what an answer says, not how it arrives.
    pub(crate) fn changes_content(self) -> bool {
        !matches!(
            self,
            Self::Truncated | Self::Cut | Self::Stalled | Self::SlowBody(_) | Self::LostAnswer
        )
    }

    /// True when it could strike this call before it is looked at.
    pub(crate) fn meets(self, incoming: &Incoming) -> bool {
        self.is_early()
            && match self {
                Self::ExpiredPage => incoming.parameter("pageToken").is_some(),
                Self::ExpiredDelta => incoming
                    .parameter("deltaToken")
                    .is_some_and(|token| token != "latest"),
                // The first call of a delta feed has no records to cut into pages.
                Self::PageSize(_) => incoming.parameter("deltaToken") != Some("latest"),
                Self::WrongType => ingestion::holds_records(incoming),
                kind => defender::could_refuse(kind, incoming),
            }
    }
}
