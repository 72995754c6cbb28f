//! What is measured: which records, from which calls, by which stream.

use clap::ValueEnum;

use crate::{
    simulator::{BulkOf, Target},
    source::{
        defender::{MACHINES, SOFTWARE_VULNERABILITIES},
        eset::DETECTIONS,
    },
};

/// The table of advanced hunting that is read.
pub(super) const TABLE: &str = "DeviceProcessEvents";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Of {
    /// Detections of ESET PROTECT, of 2.5 KB each
    Detections,
    /// Software vulnerabilities by machine: Defender's export of compressed files
    Export,
    /// Events of devices: answers of advanced hunting, as large as they are taken whole
    Hunting,
    /// Machines of Defender that are as they were the day before: none becomes a row
    Machines,
    /// Many tenants with few records each: streams side by side, held against one by one
    Tenants,
}

impl Of {
    /// How many there are unless somebody says otherwise.
    pub(super) fn rows(self) -> u64 {
        match self {
            Self::Export => 2_000_000,
            Self::Detections | Self::Hunting | Self::Machines => 100_000,
            Self::Tenants => 0,
        }
    }

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Detections => "detections",
            Self::Export => "export",
            Self::Hunting => "hunting",
            Self::Machines => "machines",
            Self::Tenants => "tenants",
        }
    }

    fn is_eset(self) -> bool {
        matches!(self, Self::Detections | Self::Tenants)
    }

    /// The plural of what is counted, such as `rows`.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Detections => "detections",
            Self::Export => "rows of an export of files",
            Self::Hunting => "rows of advanced hunting",
            Self::Machines => "unchanged machines",
            Self::Tenants => "tenants",
        }
    }

    /// The service that they come from.
    pub(super) fn source(self) -> &'static str {
        if self.is_eset() { "ESET" } else { "Defender" }
    }

    /// True when a call was to whom has them.
    pub(super) fn is_asked_by(self, target: Target) -> bool {
        if self.is_eset() {
            target.is_eset_data()
        } else {
            target.is_defender()
        }
    }

    /// What the simulator has so many of.
    pub(super) fn bulk(self) -> Option<BulkOf> {
        match self {
            Self::Detections => Some(BulkOf::Detections),
            Self::Export => Some(BulkOf::Export),
            Self::Hunting => Some(BulkOf::Hunting),
            Self::Machines => Some(BulkOf::Machines),
            Self::Tenants => None,
        }
    }

    /// The name of its stream.
    pub(super) fn stream(self) -> String {
        match self {
            Self::Detections | Self::Tenants => DETECTIONS.stream.to_owned(),
            Self::Export => SOFTWARE_VULNERABILITIES.stream.to_owned(),
            Self::Hunting => format!("defender.hunting.{TABLE}"),
            Self::Machines => MACHINES.stream.to_owned(),
        }
    }

    /// The settings that ask for it, beside those of its connection.
    pub(super) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Detections | Self::Tenants => &[("ESET_PRODUCTS", "protect")],
            Self::Export => &[("DEFENDER_STREAMS", "software-vulnerabilities")],
            Self::Hunting => &[("DEFENDER_HUNTING_TABLES", TABLE)],
            Self::Machines => &[("DEFENDER_STREAMS", "machines")],
        }
    }

    /// True for a setting of the other source, which is not connected.
    pub(super) fn leaves_out(self, setting: &str) -> bool {
        let others = match self {
            Self::Detections | Self::Tenants => ["DEFENDER_", "GRAPH_"],
            Self::Export | Self::Hunting | Self::Machines => ["ESET_", "ESET_"],
        };
        others.iter().any(|other| setting.starts_with(other))
    }

    /// How many of so many records the pipeline has to bring.
    pub(super) fn brought(self, rows: u64) -> u64 {
        if self == Self::Machines { 0 } else { rows }
    }
}
