//! Who has logged on to one machine, asked in this moment.

use super::{Connection, MDE, get};
use crate::{
    core::{
        mapping::assets::answer::{User, users},
        protocol::{odata::ErrorDialect, request::encode},
    },
    error::Result,
    io::{exchange::Reply, retry::Limits},
};

/// The application role that opens it.
pub(super) const ROLES: &[&str] = &["User.Read.All"];

/// How the app gets to ask.
const FIX: &str = "grant the app the application role `User.Read.All` of `WindowsDefenderATP`, with \
                   admin consent";

impl Connection {
    /// The users of a machine, or why they are not to be had.
    ///
    /// # Errors
    /// As of [`ApiClient::ask`](crate::io::exchange::ApiClient::ask).
    pub(super) async fn users_of(
        &self,
        machine: &str,
        limits: &Limits,
    ) -> Result<std::result::Result<Vec<User>, String>> {
        let path = format!("/api/machines/{}/logonusers", encode(machine));
        let url = self.url(MDE, &path);
        let question = get("defender logon users", url, ErrorDialect::List, false);
        let Some(asker) = self.askers.get(MDE) else {
            return Ok(Err(format!("there is no API `{MDE}`")));
        };
        let answer = match asker.ask(&question, limits).await? {
            Reply::Answer(answer) => answer,
            Reply::Forbidden(what) => return Ok(Err(format!("not permitted ({what}): {FIX}"))),
            Reply::PositionRefused(what)
            | Reply::NotOffered(what)
            | Reply::NotThere(what)
            | Reply::TooLarge(what)
            | Reply::UsedUp(what)
            | Reply::Unexpected(what, _) => return Ok(Err(what.to_string())),
        };
        let body = asker.whole_body(&question, answer, limits).await?;
        Ok(users(&body).ok_or_else(|| "the answer is not as documented".to_owned()))
    }
}
