//! How soon `serve` answers the Functions host, and what it holds while nothing happens.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{child::this_program, usage::Usage};
use crate::{
    error::{Error, Result},
    io::clock::SharedClock,
};

/// How often it is started.
const TRIES: usize = 9;

/// How long it is left alone before its memory is read.
const IDLE: Duration = Duration::from_millis(100);

/// Longer than any start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The medians over all tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// From the start of the process to its first answer to `GET /`.
    pub(super) first_answer: Duration,
    /// Bytes of memory, idle.
    pub(super) idle_bytes: u64,
}

/// A process that goes away with the try.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(super) async fn measure(folder: &Path, clock: &SharedClock) -> Result<Start> {
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let port = free_port()?;
        let began = Instant::now();
        let served = ServerProcess(
            this_program()?
                .arg("serve")
                .current_dir(folder)
                .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| failed(&error))?,
        );
        while !answers(port) {
            if began.elapsed() > PATIENCE {
                return Err(Error::transient("`serve` does not answer"));
            }
            thread::yield_now();
        }
        times.push(began.elapsed());
        clock.sleep(IDLE).await;
        sizes.push(Usage::of(&served.0.id().to_string())?.bytes);
    }
    Ok(Start {
        first_answer: median(&mut times).unwrap_or_default(),
        idle_bytes: median(&mut sizes).unwrap_or_default(),
    })
}

fn free_port() -> Result<u16> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    port.map(|address| address.port())
        .map_err(|error| failed(&error))
}

/// True when `GET /` is answered.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn median<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn failed(error: &std::io::Error) -> Error {
    Error::config(format!("`serve` can't be started: {error}"))
}
