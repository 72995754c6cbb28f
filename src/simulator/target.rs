//! The parts of the outside world that a fault can strike.

use super::kind::Group;

/// The part of the outside world that a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `POST /oauth/token`.
    EsetToken,
    /// `GET /v1/detections:listDelta`.
    EsetDetections,
    /// `GET /v1/detections`.
    EsetDetectionsWindow,
    /// `GET /v2/detections:listDelta`.
    EsetCloudOffice,
    /// `GET /v2/detections`.
    EsetCloudOfficeWindow,
    /// `GET /v2/incidents`.
    EsetIncidents,
    /// `GET /v2/incidents/{uuid}`.
    EsetIncidentsGet,
    /// A detection by its uuid, or many by `POST /v2/detections:batchGet`.
    EsetDetails,
    /// Devices: list, get and `batchGet`.
    EsetDevices,
    /// `GET /api/machines`.
    DefenderMachines,
    /// One machine: by id, its users, or by its address.
    DefenderMachine,
    /// `GET /api/vulnerabilities`, the catalogue.
    DefenderCatalogue,
    /// `GET /api/vulnerabilities/machinesVulnerabilities`.
    DefenderVulnerabilities,
    /// `GET /api/machines/SoftwareVulnerabilitiesByMachine`.
    DefenderSoftware,
    /// `GET /api/machines/SoftwareVulnerabilitiesExport`.
    DefenderExport,
    /// A file of the export.
    DefenderFile,
    /// `GET /api/machines/SoftwareVulnerabilityChangesByMachine`.
    DefenderChanges,
    /// `GET /api/alerts`.
    DefenderMdeAlerts,
    /// `GET /api/incidents`.
    DefenderXdrIncidents,
    /// `GET /v1.0/security/alerts_v2`.
    DefenderAlerts,
    /// `GET /v1.0/security/incidents`.
    DefenderIncidents,
    /// `POST /v1.0/security/runHuntingQuery`.
    DefenderHunting,
    /// `POST /{tenant}/oauth2/v2.0/token`, and that of v1.
    EntraToken,
    /// `GET /msi/token`, the platform's endpoint for managed identities.
    Identity,
    /// `GET /secrets/{name}`.
    KeyVault,
    /// `POST /dataCollectionRules/{dcr}/streams/{stream}`.
    Ingestion,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 26] = [
        Self::EsetToken,
        Self::EsetDetections,
        Self::EsetDetectionsWindow,
        Self::EsetCloudOffice,
        Self::EsetCloudOfficeWindow,
        Self::EsetIncidents,
        Self::EsetIncidentsGet,
        Self::EsetDetails,
        Self::EsetDevices,
        Self::DefenderMachines,
        Self::DefenderMachine,
        Self::DefenderCatalogue,
        Self::DefenderVulnerabilities,
        Self::DefenderSoftware,
        Self::DefenderExport,
        Self::DefenderFile,
        Self::DefenderChanges,
        Self::DefenderMdeAlerts,
        Self::DefenderXdrIncidents,
        Self::DefenderAlerts,
        Self::DefenderIncidents,
        Self::DefenderHunting,
        Self::EntraToken,
        Self::Identity,
        Self::KeyVault,
        Self::Ingestion,
    ];

    /// The name that a fault is written with.
    pub fn name(self) -> &'static str {
        match self {
            Self::EsetToken => "eset.token",
            Self::EsetDetections => "eset.detections",
            Self::EsetDetectionsWindow => "eset.detections.window",
            Self::EsetCloudOffice => "eset.cloud-office",
            Self::EsetCloudOfficeWindow => "eset.cloud-office.window",
            Self::EsetIncidents => "eset.incidents",
            Self::EsetIncidentsGet => "eset.incidents.get",
            Self::EsetDetails => "eset.details",
            Self::EsetDevices => "eset.devices",
            Self::DefenderMachines => "defender.machines",
            Self::DefenderMachine => "defender.machine",
            Self::DefenderCatalogue => "defender.catalogue",
            Self::DefenderVulnerabilities => "defender.vulnerabilities",
            Self::DefenderSoftware => "defender.software",
            Self::DefenderExport => "defender.software.export",
            Self::DefenderFile => "defender.software.file",
            Self::DefenderChanges => "defender.software.changes",
            Self::DefenderMdeAlerts => "defender.alerts.mde",
            Self::DefenderXdrIncidents => "defender.incidents.xdr",
            Self::DefenderAlerts => "defender.alerts",
            Self::DefenderIncidents => "defender.incidents",
            Self::DefenderHunting => "defender.hunting",
            Self::EntraToken => "entra.token",
            Self::Identity => "identity",
            Self::KeyVault => "key-vault",
            Self::Ingestion => "ingestion",
        }
    }

    /// True for the endpoints that ask for an ESET access token.
    pub(crate) fn is_eset_data(self) -> bool {
        self.is_eset() && self != Self::EsetToken
    }

    fn is_eset(self) -> bool {
        !self.is_defender()
            && !matches!(
                self,
                Self::EntraToken | Self::Identity | Self::KeyVault | Self::Ingestion
            )
    }

    /// True for what Microsoft Defender answers, be it through Graph.
    pub(crate) fn is_defender(self) -> bool {
        self.is_graph()
            || self.is_list_of_api()
            || self == Self::DefenderMachine
            || self.is_export()
    }

    fn is_export(self) -> bool {
        matches!(self, Self::DefenderExport | Self::DefenderFile)
    }

    /// Lists of the API of Defender for Endpoint and of Defender XDR.
    fn is_list_of_api(self) -> bool {
        self.is_skipped()
            || matches!(
                self,
                Self::DefenderSoftware
                    | Self::DefenderChanges
                    | Self::DefenderMdeAlerts
                    | Self::DefenderXdrIncidents
            )
    }

    /// Snapshots that are paged by `$skip`.
    fn is_skipped(self) -> bool {
        matches!(
            self,
            Self::DefenderMachines | Self::DefenderCatalogue | Self::DefenderVulnerabilities
        )
    }

    fn is_graph_list(self) -> bool {
        matches!(self, Self::DefenderAlerts | Self::DefenderIncidents)
    }

    /// True for what Microsoft Graph answers.
    pub(crate) fn is_graph(self) -> bool {
        self.is_graph_list() || self == Self::DefenderHunting
    }

    /// True where a licence of vulnerability management is needed.
    pub(crate) fn needs_tvm(self) -> bool {
        matches!(
            self,
            Self::DefenderCatalogue
                | Self::DefenderVulnerabilities
                | Self::DefenderSoftware
                | Self::DefenderExport
                | Self::DefenderChanges
        )
    }

    pub(super) fn takes(self, group: Group) -> bool {
        let delta = matches!(self, Self::EsetDetections | Self::EsetCloudOffice);
        let feed = delta
            || matches!(
                self,
                Self::EsetDetectionsWindow | Self::EsetCloudOfficeWindow
            );
        let list = feed || matches!(self, Self::EsetIncidents | Self::EsetDevices);
        let linked =
            self.is_graph_list() || matches!(self, Self::DefenderSoftware | Self::DefenderChanges);
        let api = self.is_defender() && !self.is_graph() && self != Self::DefenderFile;
        match group {
            Group::Every => true,
            Group::Body => self != Self::Ingestion,
            Group::Eset => self.is_eset(),
            Group::Fields => self.is_eset_data() || self.is_list_of_api() || self.is_graph_list(),
            Group::EsetData => self.is_eset_data(),
            Group::List => list,
            Group::Values => list || self.is_list_of_api() || self.is_graph_list(),
            Group::Paged => list || linked,
            Group::Feed => feed,
            Group::Delta => delta,
            Group::EsetToken => self == Self::EsetToken,
            Group::EntraToken => self == Self::EntraToken,
            Group::Ingestion => self == Self::Ingestion,
            Group::Defender => self.is_defender(),
            Group::DefenderData => api || self.is_graph(),
            Group::Api => api,
            Group::Graph => self.is_graph(),
            Group::GraphList => self.is_graph_list(),
            Group::Updates => {
                self.is_graph_list()
                    || matches!(self, Self::DefenderMdeAlerts | Self::DefenderXdrIncidents)
            }
            Group::Skipped => self.is_skipped(),
            Group::Linked => linked,
            Group::Machines => self == Self::DefenderMachines,
            Group::Incidents => self == Self::DefenderIncidents,
            Group::Changes => self == Self::DefenderChanges,
            Group::File => self == Self::DefenderFile,
            Group::Hunting => self == Self::DefenderHunting,
        }
    }
}
