//! The columns of one row, and what of its record no column took.

use std::borrow::Cow;

use serde_json::Value;
use smallvec::SmallVec;

use super::{
    CAPITALS, DETAILS, FROM, Looked,
    convert::convert,
    is_ours,
    object::Object,
    plan::{Plan, Shape, Slot, Step, Way},
};
use crate::core::{
    mapping::{Rule, To},
    record::{Members, Raw, canonical_hash},
    scan::Walker,
    shorten::{MAX_VALUE_BYTES, length, shorten},
};

/// Most rows fill fewer columns; allocators have so much at hand.
const ROOM: usize = 12;

/// One column's value.
pub(super) struct Cell<'a> {
    pub(super) slot: Slot,
    pub(super) json: Cow<'a, str>,
    origin: Origin<'a>,
}

/// What filled a column.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// The member that usually does.
    Usual,
    /// The member of this step, in place of the usual one.
    Other(&'a Step),
    /// An element of this list, in place of the usual member.
    Picked(&'static str),
    /// What was looked up: it is no part of the record.
    LookedUp,
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// No rule has come to it.
    Open,
    /// A column holds all of it.
    Taken,
    /// Columns hold some of its members; what is left of it is the part with this number.
    Partly(u8),
    /// It is left over as it is.
    Kept,
}

/// The columns of a row that are filled.
pub(super) struct Cells<'a, 'w> {
    pub(super) filled: Vec<Cell<'a>>,
    /// Which places are filled.
    has: SmallVec<[bool; 64]>,
    /// What is filled now was looked up: it must not be restored.
    looked_up: bool,
    /// Finds the members of members.
    walker: &'w mut Walker,
}

impl<'a, 'w> Cells<'a, 'w> {
    /// None is, of so many.
    pub(super) fn new(columns: usize, walker: &'w mut Walker) -> Self {
        Self {
            filled: Vec::with_capacity(ROOM),
            has: SmallVec::from_elem(false, columns),
            looked_up: false,
            walker,
        }
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.has.get(slot.place).is_some_and(|has| *has)
    }

    pub(super) fn add(&mut self, slot: Slot, json: impl Into<Cow<'a, str>>) {
        self.fill_in(slot, json.into(), Origin::Usual);
    }

    fn fill_in(&mut self, slot: Slot, json: Cow<'a, str>, origin: Origin<'a>) {
        if let Some(has) = self.has.get_mut(slot.place) {
            *has = true;
        }
        self.filled.push(Cell {
            slot,
            json,
            origin: if self.looked_up {
                Origin::LookedUp
            } else {
                origin
            },
        });
    }

    /// Fills columns by `plan`, for which `shape` is kept, and says what became of each member.
    pub(super) fn fill(&mut self, record: &Members<'a>, plan: &'a Plan, shape: &mut Shape) -> Left {
        shape.of(plan, record);
        let mut left = Left::all(record);
        let mut next = 0;
        while let Some((place, at)) = shape.step(next) {
            next += 1;
            let step = plan.steps.get(place);
            let named = step.zip(record.at(at));
            if let Some((step, member)) = named.filter(|(step, member)| step.name == member.name())
            {
                let outcome = self.follow(step, member.value(), shape, place, &mut left.parts);
                left.note(at, outcome);
            }
        }
        left
    }

    /// Fills what the step at a `place` of a plan does.
    fn follow(
        &mut self,
        step: &'a Step,
        value: Raw<'a>,
        shape: &mut Shape,
        place: usize,
        parts: &mut Vec<String>,
    ) -> Outcome {
        match &step.way {
            Way::Column(slot, _) if !self.looked_up && self.has(*slot) => Outcome::Kept,
            Way::Column(slot, how) => {
                let Some((json, exact)) = convert(value, *how) else {
                    return Outcome::Kept;
                };
                if self.has(*slot) {
                    // What was looked up and is there already is not paid for twice.
                    let held = self.filled.iter().find(|cell| cell.slot == *slot);
                    if held.is_none_or(|cell| cell.json != json) {
                        return Outcome::Kept;
                    }
                } else {
                    let origin = if step.alternate {
                        Origin::Other(step)
                    } else {
                        Origin::Usual
                    };
                    self.fill_in(*slot, json, origin);
                }
                if exact { Outcome::Taken } else { Outcome::Kept }
            }
            Way::Members(rest, plan) => {
                let Some(members) = Members::walked_value(value, self.walker) else {
                    return Outcome::Kept;
                };
                let left = self.fill(&members, plan, shape.inner(place));
                let left = left.text(&members);
                match (left, rest) {
                    (None, _) => Outcome::Taken,
                    (Some(left), Some(slot)) if !self.has(*slot) => {
                        self.fill_in(*slot, left.into(), Origin::Usual);
                        Outcome::Taken
                    }
                    (Some(left), _) => {
                        // No plan has so many steps.
                        let Ok(part) = u8::try_from(parts.len()) else {
                            return Outcome::Kept;
                        };
                        parts.push(left);
                        Outcome::Partly(part)
                    }
                }
            }
        }
    }

    /// Fills columns that the record left open, and gives back what else is new, as JSON.
    pub(super) fn look_up(
        &mut self,
        looked: Looked<'a>,
        record: &Members<'a>,
        plan: &'a Plan,
        shape: &mut Shape,
    ) -> Option<String> {
        let details = Members::of(looked.details?).ok()?;
        self.looked_up = true;
        let left = self.fill(&details, plan, shape).text(&details);
        self.looked_up = false;
        // What the record says itself is not paid for twice.
        let left = left?;
        let left = Members::of(left.as_bytes()).ok()?;
        let mut new = String::new();
        let mut object = Object::new(&mut new);
        for (key, value) in left
            .iter()
            .filter(|(key, value)| !says(record, key, *value))
        {
            object.push(key, value.get());
        }
        object.close().then_some(new)
    }

    /// Fills a column by what was looked up.
    pub(super) fn add_looked_up(&mut self, slot: Slot, json: String) {
        self.fill_in(slot, json.into(), Origin::LookedUp);
    }

    /// Fills a column from an element of a list: `from`, when a member usually fills it.
    pub(super) fn add_picked(
        &mut self,
        slot: Slot,
        json: Cow<'a, str>,
        from: Option<&'static str>,
    ) {
        self.fill_in(slot, json, from.map_or(Origin::Usual, Origin::Picked));
    }

    /// Says, if there is anything to say, which columns were not filled by their usual member, and
    /// by what.
    pub(super) fn push_origins(&self, rules: &[Rule], object: &mut Object<'_>) {
        let is_usual = |cell: &Cell<'_>| matches!(cell.origin, Origin::Usual);
        if self.filled.iter().all(is_usual) {
            return;
        }
        let is_twin = |cell: &Cell<'_>| matches!(cell.origin, Origin::Other(step) if step.twin);
        if self.filled.iter().all(is_twin) {
            object.push_text(FROM, CAPITALS);
            return;
        }
        let mut text = String::new();
        let mut from = Object::new(&mut text);
        let mut looked_up: Vec<&str> = Vec::new();
        for cell in &self.filled {
            match cell.origin {
                Origin::Other(step) => from.push_text(cell.slot.column, &step.path),
                Origin::Picked(list) => from.push_text(cell.slot.column, list),
                Origin::LookedUp if usually_fill(rules, cell.slot.column) => {
                    looked_up.push(cell.slot.column);
                }
                // Columns that no member of a record fills need not be told apart.
                Origin::Usual | Origin::LookedUp => {}
            }
        }
        if !looked_up.is_empty() {
            from.push(DETAILS, &Value::from(looked_up).to_string());
        }
        if from.close() {
            object.push(FROM, &text);
        }
    }

    fn bytes(&self) -> usize {
        self.filled
            .iter()
            .map(|cell| cell.slot.column.len() + cell.json.len() + 4)
            .sum()
    }

    /// Cuts what is too long for a column, then what is too long for a row of `limit` bytes. Gives
    /// back the names of what was cut.
    pub(super) fn shorten(&mut self, limit: usize) -> Vec<&'static str> {
        // Room for the list of names itself.
        let limit = limit.saturating_sub(4096);
        let mut names: Vec<&'static str> = Vec::new();
        for cell in &mut self.filled {
            if length(&cell.json) > MAX_VALUE_BYTES {
                cell.json = shorten(&cell.json, MAX_VALUE_BYTES).into_owned().into();
                names.push(cell.slot.column);
            }
        }
        while self.bytes() > limit {
            let Some(cell) = self.filled.iter_mut().max_by_key(|cell| cell.json.len()) else {
                break;
            };
            let half = length(&cell.json) / 2;
            cell.json = shorten(&cell.json, half).into_owned().into();
            if !names.contains(&cell.slot.column) {
                names.push(cell.slot.column);
            }
        }
        names
    }
}

/// What became of the members of one object.
pub(super) struct Left {
    /// By the places of the members.
    outcomes: Vec<Outcome>,
    /// What is left of members of which columns hold some.
    parts: Vec<String>,
}

impl Left {
    fn all(record: &Members<'_>) -> Self {
        Self {
            outcomes: vec![Outcome::Open; record.places()],
            parts: Vec::new(),
        }
    }

    /// Of two rules for a member the first says what became of it.
    fn note(&mut self, at: u32, outcome: Outcome) {
        let noted = self.outcomes.get_mut(at as usize);
        if let Some(noted) = noted.filter(|noted| **noted == Outcome::Open) {
            *noted = outcome;
        }
    }

    /// Writes what no column took of the members of `record`. Names of ours are made to differ.
    pub(super) fn write(&self, record: &Members<'_>, object: &mut Object<'_>) {
        self.each::<true>(record, object);
    }

    /// The same of an inner object, as text; `None` when nothing is left.
    fn text(&self, record: &Members<'_>) -> Option<String> {
        let mut text = String::new();
        let mut object = Object::new(&mut text);
        self.each::<false>(record, &mut object);
        object.close().then_some(text)
    }

    /// Members that are left side by side are written at once.
    fn each<const OUTER: bool>(&self, record: &Members<'_>, object: &mut Object<'_>) {
        let text = record.as_written();
        let (mut start, mut end) = (0, 0);
        for (member, outcome) in record.members().zip(&self.outcomes) {
            if *outcome == Outcome::Taken || !member.says() {
                continue;
            }
            let is_ours = OUTER && member.may_begin_with(b'@') && is_ours(member.name());
            let part = match outcome {
                Outcome::Partly(part) => self.parts.get(usize::from(*part)),
                _ => None,
            };
            if let Some(written) = member.written().filter(|_| part.is_none() && !is_ours) {
                if written.start != end + 1 || text.as_bytes().get(end) != Some(&b',') {
                    object.push_written(text.get(start..end).unwrap_or_default());
                    start = written.start;
                }
                end = written.end;
                continue;
            }
            object.push_written(text.get(start..end).unwrap_or_default());
            (start, end) = (0, 0);
            let value = part.map_or(member.value().get(), String::as_str);
            if part.is_none() && is_ours {
                object.push(&format!("@{}", member.name()), value);
            } else {
                object.push(member.name(), value);
            }
        }
        object.push_written(text.get(start..end).unwrap_or_default());
    }
}

/// True when the record has the same member itself, or further in.
fn says(record: &Members<'_>, key: &str, value: Raw<'_>) -> bool {
    let same = |members: &Members<'_>| {
        members.get(key).is_some_and(|own| {
            let (own, value) = (own.get().as_bytes(), value.get().as_bytes());
            own == value || canonical_hash(own) == canonical_hash(value)
        })
    };
    same(record)
        || record
            .iter()
            .filter_map(|(_, inner)| Members::of_value(inner))
            .any(|inner| same(&inner))
}

/// True when one of the rules fills the column without a note of its own in [`FROM`].
pub(super) fn usually_fill(rules: &[Rule], column: &str) -> bool {
    rules.iter().any(|rule| match rule.to {
        To::Column(name, _) => name == column && !rule.alternate,
        To::Members { rest, rules } => rest == Some(column) || usually_fill(rules, column),
    })
}
