//! `check`: what was looked at, a line each.

use super::screen;
use crate::{
    app::App,
    check::{self, Finding, Found},
    config::{Environment, Mode},
    error::{Error, Result},
    io::clock::SharedClock,
};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Settings alone, without opening or asking anything
    #[arg(long)]
    offline: bool,
}

pub(super) async fn check(
    arguments: Arguments,
    environment: &Environment,
    clock: SharedClock,
) -> Result<()> {
    let mut bad = 0;
    let mut tell = |finding: Finding| {
        bad += usize::from(finding.found == Found::Bad);
        show(&finding);
    };
    let settings = check::settings(environment, Mode::Local, &mut tell);
    if let (Some(settings), false) = (settings, arguments.offline) {
        match App::build(&settings, &clock) {
            Ok(app) => check::dependencies(&app, &mut tell).await,
            Err(error) => tell(Finding {
                found: Found::Bad,
                what: "parts".to_owned(),
                text: error.to_string(),
            }),
        }
    }
    match bad {
        0 => Ok(()),
        1 => Err(Error::config(
            "1 line says BAD: its end says how to mend it",
        )),
        bad => Err(Error::config(format!(
            "{bad} lines say BAD: their ends say how to mend it"
        ))),
    }
}

fn show(finding: &Finding) {
    let found = match finding.found {
        Found::Ok => "ok",
        Found::Note => "note",
        Found::Bad => "BAD",
    };
    screen::line(format!("{found:<5} {:<32} {}", finding.what, finding.text));
}
