//! Enrichment: what a list leaves out of its records, as it was found elsewhere. Pure data, parsed once.

use std::{ops::Range, sync::Arc};

use serde_json::value::RawValue;

use crate::core::{
    json::{
        chunk::{Chunk, WalkMode},
        record::JsonObject,
    },
    position::record_key::RecordMeta,
};

/// A record that something may be found out about.
#[derive(Debug)]
pub struct EnrichRequest<'a> {
    /// What identifies it.
    pub facts: &'a RecordMeta,
    /// Its members.
    pub record: JsonObject<'a>,
}

/// What was found out about one record.
#[derive(Debug, Clone, Default)]
pub struct Enrichment {
    /// The record in a richer shape.
    pub details: Option<OwnedObject>,
    /// The name of the device that it names.
    pub device_name: Option<String>,
    /// Something that the record leaves out was not to be had.
    pub missing: bool,
}

/// A JSON object of an answer that is shared with the others of it, with its members noted.
#[derive(Debug, Clone)]
pub struct OwnedObject {
    chunk: Arc<Chunk>,
    at: usize,
}

impl OwnedObject {
    /// The objects of an answer. What is none is left out.
    pub fn all_of(chunk: Chunk) -> impl Iterator<Item = Self> {
        let places: Range<usize> = 0..chunk.handy();
        let chunk = Arc::new(chunk);
        places
            .map(move |at| Self {
                chunk: Arc::clone(&chunk),
                at,
            })
            .filter(|object| object.chunk.members(object.at).is_ok())
    }

    /// An object by itself.
    pub fn of(value: &RawValue) -> Option<Self> {
        let chunk = Chunk::of_one(value.get(), &mut WalkMode::default());
        Self::all_of(chunk).next()
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        self.chunk.record(self.at)
    }

    /// Its members.
    pub fn members(&self) -> JsonObject<'_> {
        // An object, or it would not be here.
        self.chunk.members(self.at).unwrap_or_default()
    }
}

impl PartialEq for OwnedObject {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
