//! `completions` and `man`: what shells and `man` know of the commands, from the same words as `--help`.

use std::path::PathBuf;

use clap::Command;

use super::screen;
use crate::error::{Error, Result};

const NAME: &str = "sentinel-connector";

#[derive(clap::Args)]
pub(super) struct CompletionsArguments {
    /// The shell that reads them
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(clap::Args)]
pub(super) struct ManArguments {
    /// A page for each command as well, as files in this folder
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Prints what the shell reads.
pub(super) fn completions(arguments: &CompletionsArguments, mut command: Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, NAME, &mut text);
    printed(text)
}

/// Prints the page, or writes that of each command.
pub(super) fn man(arguments: &ManArguments, command: Command) -> Result<()> {
    if let Some(folder) = &arguments.into {
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder));
        return written.map_err(|error| {
            let folder = folder.display();
            Error::config(format!("`{folder}` can't be written to: {error}"))
        });
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| Error::contract(format!("no page: {error}")))?;
    printed(text)
}

fn printed(text: Vec<u8>) -> Result<()> {
    let text =
        String::from_utf8(text).map_err(|error| Error::contract(format!("no text: {error}")))?;
    screen::line(text.trim_end());
    Ok(())
}
