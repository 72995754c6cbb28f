//! The columns of one row, as they are filled.

use std::{cell::OnceCell, ops::Range};

use serde_json::Value;
use smallvec::SmallVec;

use super::{
    CAPITALS, DETAILS, Enriched, FROM,
    convert::{convert, convert_beside, stands_for_none},
    left::MemberOutcome,
    object::ObjectWriter,
    plan::{Destination, Plan, PlanCache, PlannedRule, Slot},
};
use crate::core::{
    json::record::{JsonObject, JsonSlice, canonical_hash},
    mapping::rule::{As, Rule, To},
};

/// Most rows fill fewer columns.
const ROOM: usize = 12;

/// A column that is filled.
pub(super) struct Cell<'a> {
    pub(super) slot: Slot,
    /// Where its value stands in the row.
    pub(super) value: Range<usize>,
    origin: Origin<'a>,
}

/// What filled a column.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The member that usually does.
    Usual,
    /// The member of this step, in place of the usual one.
    Other(&'a PlannedRule),
    /// An element of this list, in place of the usual member.
    Picked(&'static str),
    /// What was looked up: it is no part of the record.
    Enrichment,
}

/// The columns that are filled, in their order.
pub(super) type Filled<'a> = SmallVec<[Cell<'a>; ROOM]>;

impl Cell<'_> {
    /// False for what was looked up, or found out about the record.
    pub(super) fn is_of_record(&self) -> bool {
        !matches!(self.origin, Origin::Enrichment)
    }
}

/// The columns of a row that is being written.
pub(super) struct Cells<'a, 'w> {
    /// The row so far.
    json: &'w mut String,
    /// What stands before the value of a column, by its place.
    heads: &'a [String],
    /// Those that are filled.
    pub(super) filled: Filled<'a>,
    /// Which places are filled.
    has: SmallVec<[bool; 64]>,
    /// What is filled now was looked up: it must not be restored.
    looked_up: bool,
}

impl<'a, 'w> Cells<'a, 'w> {
    /// Behind what is in `json`, columns with these heads.
    pub(super) fn new(heads: &'a [String], json: &'w mut String) -> Self {
        Self {
            json,
            heads,
            filled: SmallVec::new(),
            has: SmallVec::from_elem(false, heads.len()),
            looked_up: false,
        }
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.has.get(slot.place).is_some_and(|has| *has)
    }

    /// Fills a column.
    pub(super) fn add(&mut self, slot: Slot, json: &str, origin: Origin<'a>) {
        self.fill_in(slot, origin, |row, _| {
            row.push_str(json);
            Some(())
        });
    }

    /// Fills a column with what is written, knowing which ones are filled; nothing, when `write` says
    /// so.
    pub(super) fn fill_in<T>(
        &mut self,
        slot: Slot,
        origin: Origin<'a>,
        write: impl FnOnce(&mut String, &[Cell<'a>]) -> Option<T>,
    ) -> Option<T> {
        let before = self.json.len();
        self.json
            .push_str(self.heads.get(slot.place).map_or("", String::as_str));
        let start = self.json.len();
        let Some(written) = write(self.json, &self.filled) else {
            self.json.truncate(before);
            return None;
        };
        if let Some(has) = self.has.get_mut(slot.place) {
            *has = true;
        }
        self.filled.push(Cell {
            slot,
            value: start..self.json.len(),
            origin: if self.looked_up {
                Origin::Enrichment
            } else {
                origin
            },
        });
        Some(written)
    }

    /// The value of a column that is filled.
    fn held(&self, slot: Slot) -> Option<&str> {
        let cell = self.filled.iter().find(|cell| cell.slot == slot)?;
        self.json.get(cell.value.clone())
    }

    /// Fills columns by `plan`, of which `shape` is: it says then what is left of each member.
    pub(super) fn fill(&mut self, record: &JsonObject<'a>, plan: &'a Plan, shape: &mut PlanCache) {
        shape.of(plan, record);
        let mut next = 0;
        while let Some((place, at)) = shape.step(next) {
            next += 1;
            if let Some((step, member)) = plan.steps.get(place).zip(record.at(at)) {
                if let Some(slot) = step.part_of() {
                    if !self.has(slot) {
                        self.assemble(slot, record, plan, shape);
                    }
                    continue;
                }
                let outcome = self.follow(step, member.value(), record, shape, place);
                shape.left.note(at, outcome);
            }
        }
    }

    /// Fills a column that is made of members.
    fn assemble(
        &mut self,
        slot: Slot,
        record: &JsonObject<'a>,
        plan: &'a Plan,
        shape: &mut PlanCache,
    ) {
        let mut taken: SmallVec<[u32; ROOM]> = SmallVec::new();
        self.fill_in(slot, Origin::Usual, |json, _| {
            let mut object = ObjectWriter::new(json);
            for (place, at) in shape.steps() {
                let Some((step, member)) = plan.steps.get(place).zip(record.at(at)) else {
                    continue;
                };
                let value = member.value();
                if let Destination::Column(_, As::Member(name)) = step.way
                    && step.part_of() == Some(slot)
                    && !stands_for_none(value)
                {
                    object.push(name, value.get());
                    taken.push(at);
                }
            }
            object.close().then_some(())
        });
        for at in taken {
            shape.left.note(at, MemberOutcome::Taken);
        }
    }

    /// Fills what the step at a `place` of a plan does.
    fn follow(
        &mut self,
        step: &'a PlannedRule,
        value: JsonSlice<'a>,
        record: &JsonObject<'a>,
        shape: &mut PlanCache,
        place: usize,
    ) -> MemberOutcome {
        match &step.way {
            Destination::Column(slot, how) => {
                let exact = if !self.has(*slot) {
                    let origin = if step.alternate {
                        Origin::Other(step)
                    } else {
                        Origin::Usual
                    };
                    self.fill_in(*slot, origin, |row, _| {
                        convert_beside(value, *how, record, row)
                    })
                } else if self.looked_up {
                    // What is there already is not paid for twice.
                    let mut own = String::new();
                    convert(value, *how, &mut own).filter(|_| self.held(*slot) == Some(&own))
                } else {
                    None
                };
                if exact == Some(true) {
                    MemberOutcome::Taken
                } else {
                    MemberOutcome::Kept
                }
            }
            Destination::JsonObject(rest, plan) => {
                let inner = shape.inner(place);
                let Some(members) = JsonObject::walked_value(value, &mut inner.walker) else {
                    return MemberOutcome::Kept;
                };
                self.fill(&members, plan, inner);
                match (inner.left.text(&members), rest) {
                    (None, _) => MemberOutcome::Taken,
                    (Some(left), Some(slot)) if !self.has(*slot) => {
                        self.add(*slot, &left, Origin::Usual);
                        MemberOutcome::Taken
                    }
                    (Some(left), _) => shape.left.part(left),
                }
            }
        }
    }

    /// Fills columns that the record left open, and gives back what else is new, as JSON.
    pub(super) fn fill_details(
        &mut self,
        looked: Enriched<'a>,
        record: &JsonObject<'a>,
        plan: &'a Plan,
        shape: &mut PlanCache,
    ) -> Option<String> {
        let details = looked.details?;
        self.looked_up = true;
        self.fill(details, plan, shape);
        self.looked_up = false;
        // What the record says itself is not paid for twice.
        let said = Said::by(record);
        let mut new = String::new();
        let mut object = ObjectWriter::new(&mut new);
        for (name, value) in shape.left.members(details) {
            if !said.has(name, value) {
                object.push(name, value);
            }
        }
        object.close().then_some(new)
    }
}

/// Says, if there is anything to say, which columns were not filled by their usual member, and by
/// what.
pub(super) fn push_origins(filled: &[Cell<'_>], rules: &[Rule], object: &mut ObjectWriter<'_>) {
    let is_usual = |cell: &Cell<'_>| matches!(cell.origin, Origin::Usual);
    if filled.iter().all(is_usual) {
        return;
    }
    let is_twin = |cell: &Cell<'_>| matches!(cell.origin, Origin::Other(step) if step.twin);
    if filled.iter().all(is_twin) {
        object.push_text(FROM, CAPITALS);
        return;
    }
    let mut text = String::new();
    let mut from = ObjectWriter::new(&mut text);
    let mut looked_up: Vec<&str> = Vec::new();
    for cell in filled {
        match cell.origin {
            Origin::Other(step) => from.push_text(cell.slot.column, &step.path),
            Origin::Picked(list) => from.push_text(cell.slot.column, list),
            Origin::Enrichment if usually_fill(rules, cell.slot.column) => {
                looked_up.push(cell.slot.column);
            }
            // Columns that no member of a record fills need not be told apart.
            Origin::Usual | Origin::Enrichment => {}
        }
    }
    if !looked_up.is_empty() {
        from.push(DETAILS, &Value::from(looked_up).to_string());
    }
    if from.close() {
        object.push(FROM, &text);
    }
}

/// What a record says, itself or in its objects.
struct Said<'r, 'a> {
    record: &'r JsonObject<'a>,
    objects: OnceCell<Vec<JsonObject<'a>>>,
}

impl<'r, 'a> Said<'r, 'a> {
    fn by(record: &'r JsonObject<'a>) -> Self {
        Self {
            record,
            objects: OnceCell::new(),
        }
    }

    fn objects(&self) -> &[JsonObject<'a>] {
        self.objects.get_or_init(|| {
            let values = self.record.iter();
            values
                .filter_map(|(_, value)| JsonObject::of_value(value))
                .collect()
        })
    }

    /// True when a member of this name says the same there.
    fn has(&self, name: &str, value: &str) -> bool {
        let same = |members: &JsonObject<'_>| {
            members
                .get(name)
                .is_some_and(|own| says_the_same(own.get(), value))
        };
        same(self.record) || self.objects().iter().any(same)
    }
}

/// True when two JSON texts mean the same.
fn says_the_same(one: &str, other: &str) -> bool {
    let is_plain = |text: &str| text.starts_with('"') && !text.contains('\\');
    let hash = |text: &str| canonical_hash(text.as_bytes());
    one == other || !(is_plain(one) && is_plain(other)) && hash(one) == hash(other)
}

/// True when one of the rules fills the column without a note of its own in [`FROM`].
pub(super) fn usually_fill(rules: &[Rule], column: &str) -> bool {
    rules.iter().any(|rule| match rule.to {
        To::Column(name, _) => name == column && !rule.alternate,
        To::JsonObject { rest, rules } => rest == Some(column) || usually_fill(rules, column),
    })
}
