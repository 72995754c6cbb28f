//! Who may call what: the audience of the token, and the roles of its app.

use axum::http::StatusCode;

use super::{errors, place::Call};
use crate::simulator::{
    Inner,
    answer::{Answer, Incoming},
    entra::App,
};

const MDE: [&str; 4] = [
    "https://api.securitycenter.microsoft.com",
    "https://api.securitycenter.windows.com",
    "https://securitycenter.onmicrosoft.com/windowsatpservice",
    "fc780465-2017-40d4-a0c5-307022471b92",
];
const XDR: [&str; 2] = [
    "https://api.security.microsoft.com",
    "8ee8fdad-f234-4243-8f3b-15c294843740",
];
const GRAPH: [&str; 2] = [
    "https://graph.microsoft.com",
    "00000003-0000-0000-c000-000000000000",
];

impl Call {
    /// The roles of which one will do, as the refusal lists them.
    pub(super) fn roles(&self) -> &'static [&'static str] {
        match self {
            Self::Machines | Self::Machine { .. } | Self::FindByAddress { .. } => {
                &["Machine.Read.All", "Machine.ReadWrite.All"]
            }
            Self::LogonUsers { .. } => &["User.Read.All"],
            Self::Catalogue
            | Self::Vulnerabilities
            | Self::Software
            | Self::Export
            | Self::Changes => &["Vulnerability.Read.All"],
            Self::File { .. } => &[],
            Self::MdeAlerts => &["Alert.Read.All", "Alert.ReadWrite.All"],
            Self::XdrIncidents => &["Incident.Read.All", "Incident.ReadWrite.All"],
            Self::Alerts => &[
                "SecurityAlert.Read.All",
                "SecurityAlert.ReadWrite.All",
                "SecurityIncident.Read.All",
                "SecurityIncident.ReadWrite.All",
            ],
            Self::Incidents => &[
                "SecurityIncident.Read.All",
                "SecurityIncident.ReadWrite.All",
            ],
            Self::Hunting => &["ThreatHunting.Read.All"],
        }
    }

    fn is_xdr(&self) -> bool {
        matches!(self, Self::XdrIncidents)
    }
}

impl Inner {
    /// Lets the caller in, or says why not.
    pub(in crate::simulator) fn defender_admits(
        &self,
        call: &Call,
        incoming: &Incoming,
    ) -> Result<(), Answer> {
        // The link to a file is all that it takes.
        if matches!(call, Call::File { .. }) {
            return Ok(());
        }
        let target = call.target();
        let options = &self.options.defender;
        let audiences: Vec<&str> = match (target.is_graph(), options.own_audience) {
            (true, _) => GRAPH.to_vec(),
            (false, true) if call.is_xdr() => XDR.to_vec(),
            (false, true) => MDE.to_vec(),
            (false, false) => [&MDE[..], &XDR[..]].concat(),
        };
        let caller = self.entra_allows(incoming, &audiences).map_err(|status| {
            // A token for another API is as good as none.
            let foreign = status == StatusCode::FORBIDDEN;
            match (target.is_graph(), foreign) {
                (true, true) => errors::graph(
                    StatusCode::UNAUTHORIZED,
                    "InvalidAuthenticationToken",
                    "Access token validation failure. Invalid audience.",
                ),
                (false, true) => errors::api(
                    StatusCode::UNAUTHORIZED,
                    "Unauthorized",
                    "Unauthorized request - the audience of the token is not valid",
                ),
                _ => errors::refusal(target, StatusCode::UNAUTHORIZED, None),
            }
        })?;
        self.quotas
            .admit(options.quotas, target, caller.app, self.clock.now())?;
        let granted = caller.has_roles && caller.app != App::Main;
        let needed = call.roles();
        let present: Vec<&str> = options.roles.iter().map(String::as_str).collect();
        let present = if granted { present } else { Vec::new() };
        if needed.iter().any(|role| present.contains(role)) {
            Ok(())
        } else {
            Err(errors::missing_roles(target, needed, &present))
        }
    }
}
