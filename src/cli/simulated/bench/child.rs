//! Processes of the bench, and the lines of JSON that they exchange.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{super::screen, BenchProcess, Of};
use crate::{
    config::{Environment, Mode, Settings},
    error::{Error, Result},
};

/// Settings by name.
pub(super) type Named = BTreeMap<String, String>;

/// A process that is ended when it is dropped.
pub(super) struct Child {
    part: BenchProcess,
    process: process::Child,
    /// Closed to say that nothing more comes.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// This program, without any setting of the one who started it.
pub(super) fn this_program() -> Result<Command> {
    let program = std::env::current_exe()
        .map_err(|error| Error::config(format!("this program can't be found again: {error}")))?;
    let mut command = Command::new(program);
    command.env_clear();
    Ok(command)
}

impl Child {
    pub(super) fn start(part: BenchProcess, of: Of, arguments: &[String]) -> Result<Self> {
        let failed = || Error::config(format!("the part `{}` can't be started", part.name()));
        let mut process = this_program()?
            .args(["bench", "--of", of.name(), "--part", part.name()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed().context(error))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or_else(failed)?;
        Ok(Self {
            part,
            process,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Says something, and that nothing more comes.
    pub(super) fn tell(&mut self, what: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(what).map_err(|error| self.strange(error))?;
        let Some(mut stdin) = self.stdin.take() else {
            return Ok(());
        };
        writeln!(stdin, "{line}").map_err(|error| self.strange(error))
    }

    /// The next line that it says.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.map_err(|error| self.strange(error))?;
        serde_json::from_str(&line).map_err(|error| self.strange(error))
    }

    /// Waits until it has ended well.
    pub(super) fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.process.wait().map_err(|error| self.strange(error))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.strange(status))
        }
    }

    fn strange(&self, error: impl std::fmt::Display) -> Error {
        let part = self.part.name();
        Error::transient(format!("the part `{part}` of the bench failed: {error}"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The settings that a part is told.
pub(super) fn settings() -> Result<Settings> {
    Ok(Settings::load(&environment()?, Mode::Local)?)
}

/// The environment that a part is told.
pub(super) fn environment() -> Result<Environment> {
    let told: Named = serde_json::from_reader(io::stdin().lock()).map_err(|error| {
        Error::contract(format!("a part of the bench was told nothing: {error}"))
    })?;
    Ok(told.into_iter().collect())
}

/// Answers whoever started this part.
pub(super) fn report(what: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(what)
        .map_err(|error| Error::contract(format!("a report is no JSON: {error}")))?;
    screen::line(line);
    Ok(())
}
