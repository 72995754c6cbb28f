//! The simulators seen through their wire.

mod azure;
mod defender;
mod eset;
mod faults;
mod https;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::*;
pub(super) use crate::io::clock::Clock;
use crate::io::{clock::VirtualClock, http::Transport};

pub(super) fn start() -> DateTime<Utc> {
    "2026-03-04T10:00:00Z".parse().unwrap()
}

pub(super) fn options() -> Options {
    Options::new(11, start())
}

/// An answer, read whole.
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: std::result::Result<Bytes, crate::io::http::TransportError>,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.as_ref().unwrap().is_empty()
    }

    pub(super) fn uuids(&self, list: &str) -> Vec<String> {
        let json = self.json();
        let records = json[list].as_array().unwrap();
        records
            .iter()
            .map(|record| record["uuid"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A simulator in virtual time, and a client that has logged in.
pub(super) struct Bench {
    pub(super) simulator: Simulator,
    pub(super) clock: VirtualClock,
    pub(super) token: String,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: Options) -> Self {
        let clock = VirtualClock::new(start());
        let simulator = Simulator::new(options, Arc::new(clock.clone()));
        let mut bench = Self {
            simulator,
            clock,
            token: String::new(),
        };
        bench.token = bench.login().await["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        bench
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) fn fault(&self, text: &str) {
        self.simulator.inject(Fault::parse(text).unwrap());
    }

    pub(super) fn world(&self) -> &World {
        self.simulator.world()
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Got {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.simulator.router().send(request).await.unwrap();
        let (status, headers) = (response.status.as_u16(), response.headers.clone());
        Got {
            status,
            headers,
            body: response.whole_body().await,
        }
    }

    pub(super) async fn form(&self, path: &str, form: &str) -> Got {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.send("POST", path, &kind, form.to_owned()).await
    }

    pub(super) async fn login(&self) -> Value {
        let form = "grant_type=password&username=sentinel%40fennbridge.example\
                    &password=correct%20horse+%26+battery%2Bstaple";
        self.form(TOKEN, form).await.json()
    }

    /// A GET to ESET, half a second after the last one.
    pub(super) async fn get(&self, path: &str) -> Got {
        self.get_with(path, &[]).await
    }

    pub(super) async fn get_with(&self, path: &str, more: &[(&str, &str)]) -> Got {
        self.clock.advance(Duration::from_millis(500));
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(more);
        self.send("GET", &format!("/eset/eu/{path}"), &headers, "")
            .await
    }

    /// All pages of a list, and the last answer.
    pub(super) async fn pages(&self, path: &str, list: &str) -> (Vec<Vec<String>>, Value) {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let got = self.get(&format!("{path}&pageToken={token}")).await;
            assert_eq!(got.status, 200, "{path}");
            pages.push(got.uuids(list));
            assert!(pages.len() < 1000, "pages without end");
            match got.json()["nextPageToken"].as_str() {
                None | Some("") => return (pages, got.json()),
                Some(next) => next.clone_into(&mut token),
            }
            assert!(token.len() <= 128);
        }
    }
}

pub(super) const TOKEN: &str = "/eset/eu/business-account.iam/oauth/token";
pub(super) const V1: &str = "incident-management/v1/detections";
pub(super) const V2: &str = "incident-management/v2/detections";
pub(super) const INCIDENTS: &str = "incident-management/v2/incidents";
pub(super) const DEVICES: &str = "device-management/v1/devices";

pub(super) fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Every uuid of every page; each must be there once.
pub(super) fn union(pages: Vec<Vec<String>>) -> BTreeSet<String> {
    let all: Vec<String> = pages.into_iter().flatten().collect();
    let set: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "a record came twice");
    set
}
