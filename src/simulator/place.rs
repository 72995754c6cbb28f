//! Which call of which service a request is.

use axum::http::Method;

use super::{
    answer::{Incoming, decode},
    defender,
    entra::Version,
    eset::{Call, Shape},
    target::Target,
};

const REGIONS: [&str; 5] = ["eu", "de", "us", "ca", "jpn"];

/// A call that somebody serves.
#[derive(Debug)]
pub(crate) enum Place {
    EsetToken,
    Eset(Call),
    Defender(defender::Call),
    Entra { tenant: String, version: Version },
    OpenId { tenant: String, version: Version },
    Identity,
    Secret { name: String },
    Ingestion { dcr: String, stream: String },
}

impl Place {
    pub(crate) fn of(incoming: &Incoming) -> Option<Self> {
        let post = incoming.method == Method::POST;
        if !post && incoming.method != Method::GET {
            return None;
        }
        // axum's routes can't hold a colon inside a segment, so the path is matched here.
        let parts: Vec<String> = incoming.path.split('/').skip(1).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (post, parts.as_slice()) {
            (_, ["eset", region, rest @ ..]) if REGIONS.contains(region) => eset(post, rest),
            (true, [tenant, "oauth2", "v2.0", "token"]) => Some(Self::Entra {
                tenant: (*tenant).to_owned(),
                version: Version::V2,
            }),
            (true, [tenant, "oauth2", "token"]) => Some(Self::Entra {
                tenant: (*tenant).to_owned(),
                version: Version::V1,
            }),
            (false, [tenant, "v2.0", ".well-known", "openid-configuration"]) => {
                Some(Self::OpenId {
                    tenant: (*tenant).to_owned(),
                    version: Version::V2,
                })
            }
            (false, [tenant, ".well-known", "openid-configuration"]) => Some(Self::OpenId {
                tenant: (*tenant).to_owned(),
                version: Version::V1,
            }),
            (false, ["msi", "token"]) => Some(Self::Identity),
            // Every secret has one version here, which the clients leave empty.
            (false, ["secrets", name] | ["secrets", name, ""]) => Some(Self::Secret {
                name: (*name).to_owned(),
            }),
            (true, ["dataCollectionRules", dcr, "streams", stream]) => Some(Self::Ingestion {
                dcr: (*dcr).to_owned(),
                stream: (*stream).to_owned(),
            }),
            (post, parts) => defender::Call::of(post, parts).map(Self::Defender),
        }
    }

    pub(crate) fn target(&self) -> Target {
        match self {
            Self::EsetToken => Target::EsetToken,
            Self::Defender(call) => call.target(),
            Self::Entra { .. } | Self::OpenId { .. } => Target::EntraToken,
            Self::Identity => Target::Identity,
            Self::Secret { .. } => Target::KeyVault,
            Self::Ingestion { .. } => Target::Ingestion,
            Self::Eset(call) => match call {
                Call::Feed {
                    shape: Shape::V1,
                    delta: true,
                } => Target::EsetDetections,
                Call::Feed {
                    shape: Shape::V1,
                    delta: false,
                } => Target::EsetDetectionsWindow,
                Call::Feed {
                    shape: Shape::V2,
                    delta: true,
                } => Target::EsetCloudOffice,
                Call::Feed {
                    shape: Shape::V2,
                    delta: false,
                } => Target::EsetCloudOfficeWindow,
                Call::Detection { .. } | Call::DetectionsBatch => Target::EsetDetails,
                Call::Incidents => Target::EsetIncidents,
                Call::Incident { .. } => Target::EsetIncidentsGet,
                Call::Devices | Call::DevicesBatch | Call::Device { .. } => Target::EsetDevices,
            },
        }
    }
}

fn eset(post: bool, rest: &[&str]) -> Option<Place> {
    let own = |uuid: &str| uuid.to_owned();
    let call = match (post, rest) {
        (true, ["business-account.iam", "oauth", "token"]) => return Some(Place::EsetToken),
        (true, ["incident-management", "v2", "detections:batchGet"]) => Call::DetectionsBatch,
        (false, ["incident-management", version, rest @ ..]) => {
            let shape = match *version {
                "v1" => Shape::V1,
                "v2" => Shape::V2,
                _ => return None,
            };
            match (shape, rest) {
                (_, ["detections"]) => Call::Feed {
                    shape,
                    delta: false,
                },
                (_, ["detections:listDelta"]) => Call::Feed { shape, delta: true },
                (_, ["detections", uuid]) => Call::Detection {
                    shape,
                    uuid: own(uuid),
                },
                (Shape::V2, ["incidents"]) => Call::Incidents,
                (Shape::V2, ["incidents", uuid]) => Call::Incident { uuid: own(uuid) },
                _ => return None,
            }
        }
        (false, ["device-management", "v1", "devices"]) => Call::Devices,
        (false, ["device-management", "v1", "devices:batchGet"]) => Call::DevicesBatch,
        (false, ["device-management", "v1", "devices", uuid]) => Call::Device { uuid: own(uuid) },
        _ => return None,
    };
    Some(Place::Eset(call))
}
