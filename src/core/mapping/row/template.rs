//! Rows of records that look alike: what no value changes is decided once, and copied from then on.
//!
//! A template is made of a row that was written member by member, and is kept only if it writes that
//! row. It gives up on a record whose values take another way through the rules.
//!
//! It saves 7 of 100 instructions of a run over an export (29.7 to 27.7 thousand a row by callgrind, reading,
//! compressing and sending included), and nothing where records have parts of their own.

use super::{
    convert::convert,
    plan::{Destination, Plan, PlanCache, Slot},
};
use crate::core::{
    json::{
        record::{JsonObject, RecordShape},
        scan::KeyOrder,
    },
    mapping::rule::As,
};

/// The records of most streams have fewer forms.
const MOST: usize = 16;

/// The templates of a stream's rows, by the forms of its records.
#[derive(Debug, Default)]
pub(super) struct Templates {
    met: Vec<ShapeEntry>,
    /// Which one makes room for the next, when there are as many as are kept.
    oldest: usize,
}

/// A form that was met.
#[derive(Debug)]
struct ShapeEntry {
    outline: KeyOrder,
    empty: u64,
    /// It was met again.
    again: bool,
    template: Option<Template>,
}

/// How the rows of one form are written.
#[derive(Debug)]
struct Template {
    parts: Vec<TemplatePart>,
    /// What stands behind the last part.
    end: String,
}

#[derive(Debug)]
struct TemplatePart {
    /// What stands before it.
    before: String,
    value: MemberValue,
}

/// What a record says.
#[derive(Debug, Clone, Copy)]
enum MemberValue {
    /// The member at this place, which is a string, as it is written.
    Text(u32),
    /// The member at this place, by [`convert`], which says this about it.
    Column(u32, As, Option<bool>),
    /// The members from this place to that one, as they are written.
    JsonObject(u32, u32),
}

/// What a row is written by, member by member.
#[derive(Clone, Copy)]
pub(super) struct RowWriter<'w> {
    pub(super) plan: &'w Plan,
    pub(super) shape: &'w PlanCache,
    /// What stands before the value of a column, by its place.
    pub(super) heads: &'w [String],
    /// The column of the members that no other one took.
    pub(super) rest: Slot,
}

impl RowWriter<'_> {
    fn head(&self, slot: Slot) -> Option<&str> {
        self.heads.get(slot.place).map(String::as_str)
    }
}

impl Templates {
    /// Writes the row of a record of this form. False when there is no template that fits: what was
    /// written then is no row.
    pub(super) fn write(
        &self,
        form: RecordShape<'_>,
        record: &JsonObject<'_>,
        json: &mut String,
    ) -> bool {
        let met = self.met.iter().find(|met| met.is_of(form));
        let template = met.and_then(|met| met.template.as_ref());
        template.is_some_and(|template| template.write(record, json).is_some())
    }

    /// Learns that a record of this form became the row `json`. What is met again gets a template.
    pub(super) fn learn(
        &mut self,
        form: RecordShape<'_>,
        record: &JsonObject<'_>,
        json: &str,
        written: RowWriter<'_>,
    ) {
        if let Some(met) = self.met.iter_mut().find(|met| met.is_of(form)) {
            if !met.again {
                met.again = true;
                met.template = Template::of(record, json, written);
            }
            return;
        }
        let met = ShapeEntry {
            outline: form.outline.clone(),
            empty: form.empty,
            again: false,
            template: None,
        };
        if self.met.len() < MOST {
            self.met.push(met);
        } else {
            self.met[self.oldest] = met;
            self.oldest = (self.oldest + 1) % MOST;
        }
    }
}

impl ShapeEntry {
    fn is_of(&self, form: RecordShape<'_>) -> bool {
        self.empty == form.empty && self.outline.is(form.outline)
    }
}

impl Template {
    /// The one that writes `json` for `record`, and the like for records like it.
    fn of(record: &JsonObject<'_>, json: &str, written: RowWriter<'_>) -> Option<Self> {
        let (mut parts, mut columns) = (Vec::new(), String::new());
        let mut filled = Vec::new();
        for (step, at) in written.shape.steps() {
            let Some((step, member)) = written.plan.steps.get(step).zip(record.at(at)) else {
                continue;
            };
            let Destination::Column(slot, how) = step.way else {
                return None;
            };
            if filled.contains(&slot) {
                continue;
            }
            let mut value = String::new();
            let exact = convert(member.value(), how, &mut value);
            let mut before = String::new();
            if exact.is_some() {
                filled.push(slot);
                before.push_str(written.head(slot)?);
            }
            columns.extend([before.as_str(), value.as_str()]);
            let value = match (how, exact) {
                (As::Verbatim, Some(true)) => MemberValue::Text(at),
                _ => MemberValue::Column(at, how, exact),
            };
            parts.push(TemplatePart { before, value });
        }
        let mut end = json.strip_prefix(&columns)?;
        let mut before = format!("{}{{", written.head(written.rest)?);
        for (first, last) in written.shape.left.runs(record)? {
            let run = record.written(first, last)?;
            end = end.strip_prefix(&before)?.strip_prefix(run)?;
            let value = MemberValue::JsonObject(first, last);
            parts.push(TemplatePart { before, value });
            before = ",".into();
        }
        let end = end.to_owned();
        Some(Self { parts, end })
    }

    /// `None` when `record` is not like the one that it was made of.
    fn write(&self, record: &JsonObject<'_>, json: &mut String) -> Option<()> {
        for TemplatePart { before, value } in &self.parts {
            json.push_str(before);
            match *value {
                MemberValue::Text(at) => {
                    let text = record.at(at)?.value().get();
                    json.push_str(Some(text).filter(|text| text.starts_with('"'))?);
                }
                MemberValue::Column(at, how, exact) => {
                    let value = record.at(at)?.value();
                    if convert(value, how, json) != exact {
                        return None;
                    }
                }
                MemberValue::JsonObject(first, last) => json.push_str(record.written(first, last)?),
            }
        }
        json.push_str(&self.end);
        Some(())
    }
}
