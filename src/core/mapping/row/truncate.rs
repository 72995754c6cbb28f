//! Rows in which something is too long.

use super::plan::Slot;
use crate::core::mapping::shorten::{MAX_VALUE_BYTES, length, shorten};

/// Cuts what is too long for a column, then what is too long for a row of `limit` bytes. Gives back
/// the names of what was cut.
pub(super) fn cut(cells: &mut [(Slot, String)], limit: usize) -> Vec<&'static str> {
    // Room for the list of names itself.
    let limit = limit.saturating_sub(4096);
    let mut names: Vec<&'static str> = Vec::new();
    for (slot, json) in &mut *cells {
        if length(json) > MAX_VALUE_BYTES {
            *json = shorten(json, MAX_VALUE_BYTES).into_owned();
            names.push(slot.column);
        }
    }
    while bytes(cells) > limit {
        let Some((slot, json)) = cells.iter_mut().max_by_key(|(_, json)| json.len()) else {
            break;
        };
        let half = length(json) / 2;
        *json = shorten(json, half).into_owned();
        if !names.contains(&slot.column) {
            names.push(slot.column);
        }
    }
    names
}

fn bytes(cells: &[(Slot, String)]) -> usize {
    let bytes = |(slot, json): &(Slot, String)| slot.column.len() + json.len() + 4;
    cells.iter().map(bytes).sum()
}
