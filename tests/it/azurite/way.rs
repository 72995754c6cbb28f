//! A longer way to the emulator: bytes take their time on it, and it can be closed.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sentinel_connector::io::clock::{Clock, SystemClock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};

/// The way to the services of an account. Nothing gets through once it is dropped.
pub(crate) struct Way {
    /// The account at the near end.
    pub(crate) connection_string: String,
    _doors: JoinSet<()>,
}

impl Way {
    /// A way on which an answer comes `delay` later.
    pub(crate) async fn to(connection_string: &str, delay: TimeDelta) -> Self {
        let mut doors = JoinSet::new();
        let mut near = Vec::new();
        for part in connection_string.split(';') {
            let Some((start, end)) = part.split_once("127.0.0.1:") else {
                near.push(part.to_owned());
                continue;
            };
            let (port, account) = end.split_once('/').unwrap();
            let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = door.local_addr().unwrap();
            doors.spawn(open(door, port.parse().unwrap(), delay / 2));
            near.push(format!("{start}{here}/{account}"));
        }
        assert_eq!(doors.len(), 3, "{connection_string}");
        Self {
            connection_string: near.join(";"),
            _doors: doors,
        }
    }
}

async fn open(door: TcpListener, port: u16, delay: TimeDelta) {
    // They end with the door.
    let mut carried = JoinSet::new();
    loop {
        let (near, _) = door.accept().await.unwrap();
        let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
        }
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        carried.spawn(async move {
            tokio::join!(
                carry(from_near, to_far, delay),
                carry(from_far, to_near, delay)
            );
        });
        while carried.try_join_next().is_some() {}
    }
}

/// Hands on what comes, each part so much later, until either side has ended.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: TimeDelta) {
    let (send, mut parts) = mpsc::unbounded_channel::<(DateTime<Utc>, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let part = buffer[..count].to_vec();
            drop(send.send((SystemClock.now() + delay, part)));
        }
    };
    let write = async move {
        while let Some((due, part)) = parts.recv().await {
            let left = (due - SystemClock.now()).to_std();
            SystemClock.sleep(left.unwrap_or(Duration::ZERO)).await;
            if to.write_all(&part).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
