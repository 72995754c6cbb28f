//! Which call a path is.

use super::super::target::Target;

/// A call to Microsoft Defender.
#[derive(Debug)]
pub(in crate::simulator) enum Call {
    Machines,
    Machine { id: String },
    LogonUsers { id: String },
    FindByAddress { arguments: String },
    Catalogue,
    Vulnerabilities,
    Software,
    Export,
    File { path: String },
    Changes,
    MdeAlerts,
    XdrIncidents,
    Alerts,
    Incidents,
    Hunting,
}

impl Call {
    /// The call of a decoded path, if there is one.
    pub(in crate::simulator) fn of(post: bool, parts: &[&str]) -> Option<Self> {
        match (post, parts) {
            (false, ["defender", "api", "v1.0", rest @ ..] | ["defender", "api", rest @ ..]) => {
                Self::of_api(rest)
            }
            (false, ["graph", "v1.0", "security", "alerts_v2"]) => Some(Self::Alerts),
            (false, ["graph", "v1.0", "security", "incidents"]) => Some(Self::Incidents),
            // OData has a short and a full name for it; Microsoft's SDKs use the full one.
            (
                true,
                [
                    "graph",
                    "v1.0",
                    "security",
                    "runHuntingQuery" | "microsoft.graph.security.runHuntingQuery",
                ],
            ) => Some(Self::Hunting),
            (false, ["tvm-export", rest @ ..]) => Some(Self::File {
                path: rest.join("/"),
            }),
            _ => None,
        }
    }

    fn of_api(parts: &[&str]) -> Option<Self> {
        Some(match parts {
            ["machines"] => Self::Machines,
            ["machines", "SoftwareVulnerabilitiesByMachine"] => Self::Software,
            ["machines", "SoftwareVulnerabilitiesExport"] => Self::Export,
            ["machines", "SoftwareVulnerabilityChangesByMachine"] => Self::Changes,
            ["machines", find] if find.starts_with("findbyip(") => Self::FindByAddress {
                arguments: find
                    .strip_prefix("findbyip(")?
                    .strip_suffix(')')?
                    .to_owned(),
            },
            ["machines", id] => Self::Machine {
                id: (*id).to_owned(),
            },
            ["machines", id, "logonusers"] => Self::LogonUsers {
                id: (*id).to_owned(),
            },
            ["vulnerabilities"] => Self::Catalogue,
            ["vulnerabilities", "machinesVulnerabilities"] => Self::Vulnerabilities,
            ["alerts"] => Self::MdeAlerts,
            ["incidents"] => Self::XdrIncidents,
            _ => return None,
        })
    }

    pub(in crate::simulator) fn target(&self) -> Target {
        match self {
            Self::Machines => Target::DefenderMachines,
            Self::Machine { .. } | Self::LogonUsers { .. } | Self::FindByAddress { .. } => {
                Target::DefenderMachine
            }
            Self::Catalogue => Target::DefenderCatalogue,
            Self::Vulnerabilities => Target::DefenderVulnerabilities,
            Self::Software => Target::DefenderSoftware,
            Self::Export => Target::DefenderExport,
            Self::File { .. } => Target::DefenderFile,
            Self::Changes => Target::DefenderChanges,
            Self::MdeAlerts => Target::DefenderMdeAlerts,
            Self::XdrIncidents => Target::DefenderXdrIncidents,
            Self::Alerts => Target::DefenderAlerts,
            Self::Incidents => Target::DefenderIncidents,
            Self::Hunting => Target::DefenderHunting,
        }
    }
}
