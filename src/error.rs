//! The one error type. Its kind says who must act, and its text names the thing and the fix. What is
//! known of the request behind it are fields, of which the text is made when somebody reads it.

use std::{fmt, time::Duration};

use http::{Method, StatusCode};

/// Who must act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The operator: a setting, a role or a licence has to change.
    Config,
    /// Nobody: the next run goes on where this one stopped.
    Transient,
    /// We: the remote side no longer speaks as it did.
    Contract,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::Transient => "transient",
            Self::Contract => "contract",
        })
    }
}

/// The request behind an [`Error`], without its host, its query, its headers and its body, which may
/// hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who asked: a stream or a service. Texts begin with it, the method and the place; without it
    /// the message names them in its own words.
    pub name: Option<String>,
    /// The method.
    pub method: Method,
    /// The path.
    pub place: String,
    /// The status of the last answer; none when there was no answer.
    pub status: Option<StatusCode>,
    /// How often it was sent, the last time included.
    pub attempts: u32,
    /// The time from the first time on, with the waits in between.
    pub elapsed: Duration,
}

impl Attempt {
    /// A request that is sent for the first time.
    pub fn new(method: Method, place: impl Into<String>) -> Self {
        Self {
            name: None,
            method,
            place: place.into(),
            status: None,
            attempts: 1,
            elapsed: Duration::ZERO,
        }
    }
}

/// An error with its [`Kind`]. Texts are lower case, without a final period, and never hold a
/// secret or a response body. The alternate form (`{:#}`) leaves out what the next run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<ErrorParts>);

/// The parts of an error, boxed: each result and each future that may hold one is smaller for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ErrorParts {
    kind: Kind,
    /// What it was about, each with `: ` at its end.
    about: String,
    message: String,
    end: End,
    after: Option<Duration>,
    attempt: Option<Attempt>,
}

/// Why nothing more was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing more helps.
    Final,
    /// It was tried often enough; the text says what the next run does.
    Often(&'static str),
    /// There was no time for this wait.
    NoTime(Duration),
}

/// The result of anything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The operator has to change something; `message` names it.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message.into())
    }

    /// It will pass; `message` says what was tried.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, message.into())
    }

    /// The remote side broke its contract; `message` says how.
    pub fn contract(message: impl Into<String>) -> Self {
        Self::new(Kind::Contract, message.into())
    }

    fn new(kind: Kind, message: String) -> Self {
        Self(Box::new(ErrorParts {
            kind,
            about: String::new(),
            message,
            end: End::Final,
            after: None,
            attempt: None,
        }))
    }

    /// This error of a request, unless it is of another one already.
    #[must_use]
    pub fn of(mut self, attempt: Attempt) -> Self {
        let parts = &mut *self.0;
        if parts.attempt.is_none() {
            let about = std::mem::take(&mut parts.about);
            parts.message.insert_str(0, &about);
            parts.attempt = Some(attempt);
        }
        self
    }

    /// This error of a request that was sent so often in this time.
    #[must_use]
    pub fn tried(mut self, attempts: u32, elapsed: Duration) -> Self {
        if let Some(attempt) = &mut self.0.attempt {
            attempt.attempts = attempts;
            attempt.elapsed = elapsed;
        }
        self
    }

    /// This error of a request that was tried often enough; `next` says what the next run does.
    #[must_use]
    pub fn given_up(mut self, next: &'static str) -> Self {
        self.0.end = End::Often(next);
        self
    }

    /// This error of a run that has no time to wait so long for the next try.
    #[must_use]
    pub fn without_time_for(mut self, wait: Duration) -> Self {
        self.0.end = End::NoTime(wait);
        self
    }

    /// This error, of one who asked for so much patience.
    #[must_use]
    pub fn asking_for(mut self, wait: Option<Duration>) -> Self {
        self.0.after = wait;
        self
    }

    /// How long to wait before another try, if somebody has asked for that.
    pub fn after(&self) -> Option<Duration> {
        self.0.after
    }

    /// Who must act.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The request behind it, if there was one.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.0.attempt.as_ref()
    }

    /// True when the request behind it got no answer.
    pub fn is_unanswered(&self) -> bool {
        self.attempt()
            .is_some_and(|attempt| attempt.status.is_none())
    }

    /// This error with `context: ` in front of its text.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.about = format!("{context}: {}", self.0.about);
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        f.write_str(&parts.about)?;
        if let Some(attempt) = &parts.attempt
            && let Some(name) = &attempt.name
        {
            write!(f, "{name}: {} {}: ", attempt.method, attempt.place)?;
        }
        f.write_str(&parts.message)?;
        let counted = parts.attempt.as_ref();
        let counted = counted.map_or((1, 0), |one| (one.attempts, one.elapsed.as_secs()));
        match parts.end {
            End::Often(next) if !f.alternate() => {
                let (attempts, seconds) = counted;
                write!(f, " ({attempts} attempts in {seconds} s); {next}")
            }
            End::NoTime(wait) if !f.alternate() => write!(
                f,
                ", and {} s more do not fit this run; the next one goes on from here",
                wait.as_secs()
            ),
            End::Final | End::Often(_) | End::NoTime(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_made_of_the_fields() {
        let attempt = Attempt {
            name: Some("eset.detections".to_owned()),
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            ..Attempt::new(Method::GET, "/v1/detections")
        };
        let error = Error::transient("answered 503")
            .of(attempt.clone())
            .tried(6, Duration::from_secs(31))
            .given_up("the next run tries again")
            .context("run");
        assert_eq!(
            error.to_string(),
            "run: eset.detections: GET /v1/detections: answered 503 (6 attempts in 31 s); the next \
             run tries again"
        );
        assert_eq!(
            format!("{error:#}"),
            "run: eset.detections: GET /v1/detections: answered 503"
        );
        // The innermost request is the one that failed.
        let outer = error.clone().of(Attempt::new(Method::PUT, "/other"));
        assert_eq!(outer, error);
        let wrapped = Error::config("no").context("why").of(attempt).context("at");
        assert_eq!(
            wrapped.to_string(),
            "at: eset.detections: GET /v1/detections: why: no"
        );
    }
}
