//! Where records come from: a source answers one page, and enriches records with what they leave out. Loops
//! over slices and pages, batching and state are the pipeline's.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{
    core::{
        mapping::{
            assets::answer::User,
            enrichment::{EnrichRequest, Enrichment},
        },
        position::{
            cursor::{Basis, Listed, Slice},
            paging::Page,
            window::Window,
        },
        protocol::{
            choice::{Choice, Choices},
            endpoint::Endpoint,
            roles::Beyond,
            source_kind::SourceKind,
        },
    },
    error::{Error, Result},
    io::{exchange::Reply, retry::Limits},
};

pub mod defender;
pub mod eset;

/// What came of enriching records.
#[derive(Debug, Default)]
pub struct Enriched {
    /// One for each record, in their order; fewer when something stopped it.
    pub found: Vec<Enrichment>,
    /// Why the rest must not go on without, and has to be read again.
    pub stopped: Option<Error>,
    /// What the next runs should know.
    pub listed: Option<Listed>,
}

/// One stream of one connection.
#[async_trait]
pub trait Source: Send + Sync {
    /// The stream's constants.
    fn endpoint(&self) -> &'static Endpoint;

    /// One page of a slice, and the member that holds its records.
    async fn page(
        &self,
        slice: &Slice,
        page: &Page,
        limits: &Limits,
    ) -> Result<(Reply, &'static str)>;

    /// Which time the stream's windows can go by; `None` when the source can't tell yet, or has no
    /// choice.
    async fn basis(&self, limits: &Limits) -> Result<Option<Basis>> {
        let _ = limits;
        Ok(None)
    }

    /// How many records happened in a window, when the source can tell without sending them.
    async fn count(&self, window: Window, limits: &Limits) -> Result<Option<u64>> {
        let _ = (window, limits);
        Ok(None)
    }

    /// Until when the source has said that it answers nothing, whatever it is asked.
    fn rests_until(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// True when [`enrich`](Self::enrich) has something to do.
    fn enriches(&self) -> bool {
        false
    }

    /// How many records are enriched together. `known` is what was found out before.
    fn together(&self, known: Option<Listed>) -> usize {
        let _ = known;
        1
    }

    /// What the records leave out. Best effort: what can't be had is left empty. `known` is what an
    /// earlier run found out.
    async fn enrich(
        &self,
        records: &[EnrichRequest<'_>],
        known: Option<Listed>,
        limits: &Limits,
    ) -> Enriched {
        let _ = (known, limits);
        Enriched {
            found: vec![Enrichment::default(); records.len()],
            ..Enriched::default()
        }
    }
}

/// A source that can be shared.
pub type SharedSource = Arc<dyn Source>;

/// A tenant with a login: what the streams of a connection share.
#[async_trait]
pub trait SourceConnection: Send + Sync {
    /// One of its streams.
    fn stream(self: Arc<Self>, endpoint: &'static Endpoint) -> SharedSource;

    /// Who grants its access tokens.
    fn issuer(&self) -> &'static str;

    /// The application whose token opens an endpoint, where there are several.
    fn resource(&self, endpoint: &Endpoint) -> Option<&'static str> {
        let _ = endpoint;
        None
    }

    /// Asks for the access token that opens these endpoints, unless there is one. The application roles
    /// that it names and none of them needs.
    async fn log_in(&self, endpoints: &[&Endpoint], limits: &Limits) -> Result<Vec<Beyond>>;

    /// True when alerts of this product are followed, so that their closing is known.
    fn follows(&self, product: &str) -> bool {
        let _ = product;
        true
    }

    /// Who was logged on to a machine, or why that can't be told.
    async fn logon_users(
        &self,
        machine: &str,
        limits: &Limits,
    ) -> Result<std::result::Result<Vec<User>, String>> {
        let _ = (machine, limits);
        Ok(Err("the source does not tell who was logged on".to_owned()))
    }
}

/// All endpoints of a source, in the order in which they begin.
pub fn endpoints_of(kind: SourceKind) -> Vec<&'static Endpoint> {
    match kind {
        SourceKind::Eset => eset::STREAMS.to_vec(),
        SourceKind::Defender => {
            let tables = defender::hunting::tables()
                .iter()
                .map(|table| &table.endpoint);
            defender::ENDPOINTS.into_iter().chain(tables).collect()
        }
    }
}

/// Every endpoint of every source.
pub fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    SourceKind::ALL.into_iter().flat_map(endpoints_of)
}

/// The endpoints of a source that these choices switch on.
///
/// # Errors
/// `Config`, when a choice names what there is not.
pub fn switched_on(kind: SourceKind, choices: &Choices) -> Result<Vec<&'static Endpoint>> {
    defender::hunting::all_known(choices)?;
    let mut endpoints = endpoints_of(kind);
    endpoints.retain(|endpoint| endpoint.switch.is_on(choices));
    Ok(endpoints)
}

/// What follows from the choices of a connection, and nobody would expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The setting that it follows from.
    pub setting: &'static str,
    /// What it is.
    pub text: String,
}

/// What follows from the choices of a connection, and nobody would expect.
pub fn remarks(kind: SourceKind, choices: &Choices) -> Vec<Remark> {
    let mut remarks = match kind {
        SourceKind::Eset => Vec::new(),
        SourceKind::Defender => defender::remarks(choices),
    };
    let endpoints = endpoints_of(kind);
    if !endpoints
        .iter()
        .any(|endpoint| endpoint.switch.is_on(choices))
    {
        let switches = endpoints.iter().flat_map(|one| one.switch.choices());
        let settings: BTreeSet<&str> = switches.map(|Choice(setting, _)| *setting).collect();
        let named: Vec<String> = settings.iter().map(|name| format!("`{name}`")).collect();
        remarks.extend(settings.first().map(|setting| Remark {
            setting,
            text: format!(
                "nothing is pulled, since no stream is switched on by {} together",
                named.join(" and ")
            ),
        }));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_switch_nothing_on_are_told_with_all_settings_that_do() {
        let texts = |products, streams| {
            let mut choices = Choices::default();
            choices.add("ESET_PRODUCTS", [products]);
            choices.add("ESET_STREAMS", [streams]);
            let remarks = remarks(SourceKind::Eset, &choices);
            let texts: Vec<String> = remarks.into_iter().map(|remark| remark.text).collect();
            texts.join("; ")
        };
        assert_eq!(texts("cloud-office", "detections"), "");
        insta::assert_snapshot!(texts("cloud-office", "incidents"), @"nothing is pulled, since no stream is switched on by `ESET_PRODUCTS` and `ESET_STREAMS` together");
    }
}
