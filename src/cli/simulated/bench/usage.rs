//! What a process has used, as the kernel counts it.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The kernel counts CPU time for `/proc` in hundredths of a second (`USER_HZ`), on every machine.
const TICK: f64 = 0.01;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Seconds of CPU time, of all threads, in the program and in the kernel.
    pub(super) cpu_seconds: f64,
    /// The most bytes of memory that it has had, its program's pages included.
    pub(super) peak_bytes: u64,
    /// The bytes of memory that it has now.
    pub(super) bytes: u64,
}

impl Usage {
    pub(super) fn of_this_process() -> Result<Self> {
        Self::of("self")
    }

    /// That of the process with this id.
    pub(super) fn of(process: &str) -> Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{process}/{name}")).map_err(|error| {
                Error::config(format!(
                    "`bench` reads what a process uses from /proc, as Linux has it: {error}"
                ))
            })
        };
        let strange = || Error::contract("/proc is not as documented");
        let (stat, status) = (read("stat")?, read("status")?);
        Ok(Self {
            cpu_seconds: cpu_seconds(&stat).ok_or_else(strange)?,
            peak_bytes: bytes(&status, "VmHWM:").ok_or_else(strange)?,
            bytes: bytes(&status, "VmRSS:").ok_or_else(strange)?,
        })
    }
}

/// Fields 14 and 15, counted from behind the program's name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * TICK)
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert!((cpu_seconds(stat).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(cpu_seconds("rubbish"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t       4 kB\n";
        assert_eq!(bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(bytes(status, "VmRSS:"), Some(4 << 10));
        assert_eq!(bytes(status, "VmSwap:"), None);
    }
}
