//! Parses the arguments, runs, and says how it went by the exit code: 0 well, 1 not, 2 wrong use.

use std::process::ExitCode;

fn main() -> ExitCode {
    sentinel_connector::cli::main(std::env::args_os())
}
