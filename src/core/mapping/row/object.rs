//! JSON that is written behind what is there.

use crate::core::{json::scan::is_plain, mapping::shorten::quoted};

/// Writes `text` as a JSON string.
pub(super) fn push_text(json: &mut String, text: &str) {
    if is_plain(text) {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&quoted(text));
    }
}

/// A JSON object that is being written. Nothing is written before its first member is.
pub(super) struct ObjectWriter<'o> {
    json: &'o mut String,
    is_empty: bool,
}

impl<'o> ObjectWriter<'o> {
    /// An object behind what is in `json`.
    pub(super) fn new(json: &'o mut String) -> Self {
        Self {
            json,
            is_empty: true,
        }
    }

    /// Adds a member.
    pub(super) fn push(&mut self, key: &str, json: &str) {
        self.name(key);
        self.json.push_str(json);
    }

    /// Adds members as they are written in a record, if there are any.
    pub(super) fn push_written(&mut self, members: &str) {
        if !members.is_empty() {
            self.separate();
            self.json.push_str(members);
        }
    }

    /// Adds a member that is a string.
    pub(super) fn push_text(&mut self, key: &str, text: &str) {
        self.name(key);
        push_text(self.json, text);
    }

    fn name(&mut self, key: &str) {
        self.separate();
        push_text(self.json, key);
        self.json.push(':');
    }

    fn separate(&mut self) {
        self.json.push(if self.is_empty { '{' } else { ',' });
        self.is_empty = false;
    }

    /// Ends it. False when there was no member, so that there is no object.
    pub(super) fn close(self) -> bool {
        if !self.is_empty {
            self.json.push('}');
        }
        !self.is_empty
    }
}
