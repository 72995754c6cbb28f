//! Rows in which something is too long.

use serde_json::{Map, Value, json};

use super::plan::Slot;
use crate::core::mapping::shorten::{LeftOut, MAX_VALUE_BYTES, length, shorten_and_count};

/// In the list of what was cut: how many elements and members were left out, by where they were.
const LEFT_OUT: &str = "leftOut";

/// Paths that are longer, and more of them than this, count for their column.
const LONGEST_PATH: usize = 64;
const MOST_PATHS: usize = 16;

/// The columns that were cut, and what each of them lost.
#[derive(Debug, Default)]
pub(super) struct Cut(Vec<(&'static str, LeftOut)>);

impl Cut {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the columns, then an object with the counts, if elements were left out.
    pub(super) fn json(&self) -> String {
        let mut list: Vec<Value> = self.0.iter().map(|(column, _)| (*column).into()).collect();
        let mut counts: Map<String, Value> = Map::new();
        for (column, left_out) in &self.0 {
            for (path, count) in left_out {
                let is_named = !path.is_empty() && path.len() <= LONGEST_PATH;
                let name = if is_named && counts.len() < MOST_PATHS {
                    format!("{column}.{path}")
                } else {
                    (*column).to_owned()
                };
                let before = counts
                    .get(&name)
                    .and_then(Value::as_u64)
                    .unwrap_or_default();
                counts.insert(name, (before + *count as u64).into());
            }
        }
        if !counts.is_empty() {
            list.push(json!({ LEFT_OUT: counts }));
        }
        Value::from(list).to_string()
    }

    /// What the column lost.
    fn of(&mut self, column: &'static str) -> &mut LeftOut {
        let known = self.0.iter().position(|(name, _)| *name == column);
        let at = known.unwrap_or_else(|| {
            self.0.push((column, LeftOut::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

/// Cuts what is too long for a column, then what is too long for a row of `limit` bytes.
pub(super) fn cut(cells: &mut [(Slot, String)], limit: usize) -> Cut {
    // Room for the list of names itself.
    let limit = limit.saturating_sub(8192);
    let mut all = Cut::default();
    for (slot, json) in &mut *cells {
        if length(json) > MAX_VALUE_BYTES {
            *json = shorten_and_count(json, MAX_VALUE_BYTES, all.of(slot.column)).into_owned();
        }
    }
    while bytes(cells) > limit {
        let Some((slot, json)) = cells.iter_mut().max_by_key(|(_, json)| json.len()) else {
            break;
        };
        let half = length(json) / 2;
        *json = shorten_and_count(json, half, all.of(slot.column)).into_owned();
    }
    all
}

fn bytes(cells: &[(Slot, String)]) -> usize {
    let bytes = |(slot, json): &(Slot, String)| slot.column.len() + json.len() + 4;
    cells.iter().map(bytes).sum()
}
