//! The app by the settings that are in force: where the list of connections is a file or a blob, it is
//! read again before each call.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use super::{
    App,
    list::{ConnectionList, ListVersion},
};
use crate::{
    config::{Environment, ListPlace, Mode, Problems, Settings},
    error::{Error, Result},
    io::clock::SharedClock,
};

/// An app that follows its list of connections.
pub struct Live {
    environment: Environment,
    mode: Mode,
    settings: std::result::Result<Settings, Problems>,
    clock: SharedClock,
    /// Another list makes another app.
    follows: bool,
    held: Mutex<LiveState>,
}

#[derive(Default)]
struct LiveState {
    app: Option<Arc<App>>,
    list: Option<ConnectionList>,
    /// The list that the app was built by.
    version: Option<ListVersion>,
    /// The text that was read last, and is not in force.
    refused: Option<String>,
    /// When the list was last looked for, and what was wrong then.
    looked: Option<DateTime<Utc>>,
    wrong: Option<Error>,
}

/// The app as it is now.
pub struct InForce {
    /// The app, or why there is none.
    pub app: Result<Arc<App>>,
    /// The settings that it was built by.
    pub environment: Environment,
    /// Why the list of connections is the one of before.
    pub stale: Option<Error>,
}

impl Live {
    /// An app by the settings of `environment`, as they were read from it. It is built when it is asked
    /// for, and again as long as that fails.
    pub fn new(
        environment: Environment,
        mode: Mode,
        settings: std::result::Result<Settings, Problems>,
        clock: SharedClock,
    ) -> Self {
        Self {
            environment,
            mode,
            settings,
            clock,
            follows: true,
            held: Mutex::default(),
        }
    }

    /// An app that stays as it is, whatever becomes of its list.
    pub fn fixed(
        app: Arc<App>,
        environment: Environment,
        mode: Mode,
        settings: Settings,
        clock: SharedClock,
    ) -> Self {
        let held = LiveState {
            app: Some(app),
            ..LiveState::default()
        };
        Self {
            follows: false,
            held: Mutex::new(held),
            ..Self::new(environment, mode, Ok(settings), clock)
        }
    }

    /// Who reads the settings.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The app. While its list can't be read, the last good one stays in force.
    pub async fn in_force(&self) -> InForce {
        let asked = self.clock.now();
        // Locked while reading. What was begun after a question answers it, too: a place that is away is
        // not waited for by one after the other.
        let held = &mut *self.held.lock().await;
        let place = ListPlace::of(&self.environment);
        if !self.follows || !place.is_ok_and(|place| place.is_some()) {
            let built = self.build(held);
            return InForce {
                app: built,
                environment: self.environment.clone(),
                stale: None,
            };
        }
        if held.looked.is_none_or(|looked| looked <= asked) {
            held.looked = Some(self.clock.now());
            held.wrong = self.refresh(held).await.err();
            if let Some(error) = &held.wrong {
                tracing::error!(kind = %error.kind(), "{error}");
            }
        }
        match (&held.app, &held.version, held.wrong.clone()) {
            (Some(app), Some(version), stale) => InForce {
                app: Ok(Arc::clone(app)),
                environment: self
                    .environment
                    .with_connections(Ok(version.text.clone()), stale.as_ref()),
                stale,
            },
            (_, _, error) => {
                let error = error.unwrap_or_else(|| Error::contract("a list, and no app of it"));
                let text = held.refused.clone().ok_or_else(|| error.clone());
                InForce {
                    app: Err(error),
                    environment: self.environment.with_connections(text, None),
                    stale: None,
                }
            }
        }
    }

    fn build(&self, held: &mut LiveState) -> Result<Arc<App>> {
        if let Some(app) = &held.app {
            return Ok(Arc::clone(app));
        }
        let settings = self.settings.as_ref().map_err(Clone::clone)?;
        let app = Arc::new(App::build(settings, &self.clock)?);
        Ok(Arc::clone(held.app.insert(app)))
    }

    /// Reads the list again, and builds another app when it has changed. Runs that are under way go on
    /// with theirs; the leases of streams hold between both.
    async fn refresh(&self, held: &mut LiveState) -> Result<()> {
        if held.list.is_none() {
            held.list = ConnectionList::open(&self.environment, self.mode, &self.clock)?;
        }
        let Some(list) = &held.list else {
            return Err(Error::contract("`CONNECTIONS` names no list"));
        };
        held.refused = None;
        let Some(version) = list.read(held.version.as_ref()).await? else {
            return Ok(());
        };
        held.refused = Some(version.text.clone());
        let text = Ok(version.text.clone());
        let environment = self.environment.with_connections(text, None);
        let settings = Settings::load(&environment, self.mode)?;
        let app = App::build(&settings, &self.clock)?;
        for problem in settings.problems() {
            tracing::error!(setting = problem.setting, "{problem}");
        }
        for note in &settings.warnings {
            tracing::info!(setting = note.setting, "{note}");
        }
        tracing::info!(
            place = %list.place(),
            connections = settings.connections.len(),
            disabled = settings.disabled.len(),
            wrong = settings.broken.len(),
            "the list of connections is in force"
        );
        held.app = Some(Arc::new(app));
        held.version = Some(version);
        held.refused = None;
        Ok(())
    }
}
