//! The yardsticks: what nobody can leave out, done in the plainest way, one step after the other in
//! one thread. Nothing is mapped, remembered, counted or proven.

use std::time::Instant;

use super::{Done, Of, Usage};
use crate::{
    app,
    config::Settings,
    core::mapping::batch::MAX_BATCH_BYTES,
    error::{Error, Result},
    io::clock::Clock,
};

mod pages;
mod wire;

use pages::{Records, ReferenceReader};
use wire::ReferenceWriter;

/// Reads every page, cuts it into rows, compresses and writes them.
pub(super) async fn work(of: Of, settings: Settings, clock: &dyn Clock) -> Result<Done> {
    let began = Instant::now();
    let transport = app::network(&settings)?;
    let mut reader = ReferenceReader::start(of, &settings, &transport, clock.now()).await?;
    let writer = ReferenceWriter::start(&settings, &transport).await?;
    let (mut records, mut bytes) = (0, 0);
    let mut batch = vec![b'['];
    while let Some(page) = reader.next().await? {
        let mut page = Records::of(&page)?;
        while let Some(record) = page.next()? {
            records += 1;
            bytes += record.len() as u64;
            if batch.len() + record.len() >= MAX_BATCH_BYTES {
                writer.write(&mut batch).await?;
            }
            batch.extend_from_slice(record);
            batch.push(b',');
        }
    }
    if batch.len() > 1 {
        writer.write(&mut batch).await?;
    }
    Ok(Done {
        records,
        bytes,
        seconds: began.elapsed().as_secs_f64(),
        usage: Usage::of_this_process()?,
    })
}

/// Reads every page, and does nothing with it.
pub(super) async fn fetch(of: Of, settings: Settings, clock: &dyn Clock) -> Result<Done> {
    let transport = app::network(&settings)?;
    let mut reader = ReferenceReader::start(of, &settings, &transport, clock.now()).await?;
    let began = Instant::now();
    let mut bytes = 0;
    while let Some(page) = reader.next().await? {
        bytes += page.len() as u64;
    }
    Ok(Done {
        records: 0,
        bytes,
        seconds: began.elapsed().as_secs_f64(),
        usage: Usage::of_this_process()?,
    })
}

/// Nothing goes wrong on this machine that could be mended.
fn strange(error: impl std::fmt::Display) -> Error {
    Error::contract(format!("the reference failed: {error}"))
}
