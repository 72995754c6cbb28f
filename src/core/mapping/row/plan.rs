//! Rules, laid out so that a member's name finds its rules at once.

use super::left::Left;
use crate::core::{
    json::{
        record::{JsonObject, KeyOrderCache},
        scan::{Walker, key_of},
    },
    mapping::rule::{As, Rule, To},
    position::record_key::is_capitalised,
};

/// A column that may be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its name.
    pub(super) column: &'static str,
    /// Its place among the columns of the same rows.
    pub(super) place: usize,
}

/// The columns of a stream's rows that a rule or a constant may fill.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Vec<&'static str>);

impl Slots {
    /// The slot of a column.
    pub(super) fn of(&mut self, column: &'static str) -> Slot {
        let known = self.0.iter().position(|known| *known == column);
        let place = known.unwrap_or_else(|| {
            self.0.push(column);
            self.0.len() - 1
        });
        Slot { column, place }
    }

    /// What stands before the value of each, behind another one.
    pub(super) fn heads(&self) -> Vec<String> {
        let columns = self.0.iter();
        columns.map(|column| format!(",\"{column}\":")).collect()
    }
}

/// Where a member goes.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// To a column.
    Column(Slot, As),
    /// Its members go on by a plan of their own, what they leave over to the column, else to
    /// `additionalFields`.
    JsonObject(Option<Slot>, Plan),
}

/// A rule, as part of a [`Plan`].
#[derive(Debug, Clone)]
pub(super) struct PlannedRule {
    /// The name of its member, and the name's [`key_of`].
    name: &'static str,
    key: u64,
    /// The member with those around it: `context.process.path`.
    pub(super) path: String,
    pub(super) way: Destination,
    /// Another member is the usual one for the column.
    pub(super) alternate: bool,
    /// That other one is the same but for a capital, and there is no further one.
    pub(super) twin: bool,
}

impl PlannedRule {
    /// The column, if it is made of this member and others.
    pub(super) fn part_of(&self) -> Option<Slot> {
        match self.way {
            Destination::Column(slot, As::Member(_)) if !self.alternate => Some(slot),
            _ => None,
        }
    }
}

/// The rules for the members of one object, in their order.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: Vec<PlannedRule>,
}

/// Which steps of a plan a record takes, with the members at which places, and what that leaves. Most
/// records of a stream have the members of the one before.
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    last: KeyOrderCache,
    /// The places of a step and of its member, by the steps.
    taken: Vec<(usize, u32)>,
    /// The shapes of the members that have a plan of their own, by the steps' places.
    inner: Vec<PlanCache>,
    /// Goes over such members.
    pub(super) walker: Walker,
    /// What of the record no column took.
    pub(super) left: Left,
}

impl PlanCache {
    /// Places of the members of `record`; `plan` is one for the life of this cache.
    pub(super) fn of(&mut self, plan: &Plan, record: &JsonObject<'_>) {
        let same = self.last.are_those_of(record);
        self.left.begin(record, same);
        if !same {
            // Rules in their order, not the members in theirs: the first rule of a column wins.
            let steps = (0..).zip(&plan.steps);
            let taken =
                steps.filter_map(|(at, step)| Some((at, record.place(step.name, step.key)?)));
            self.taken.clear();
            self.taken.extend(taken);
        }
    }

    /// The steps that are taken: the place of each, and the one of its member.
    pub(super) fn steps(&self) -> impl Iterator<Item = (usize, u32)> {
        self.taken.iter().copied()
    }

    /// One of them.
    pub(super) fn step(&self, at: usize) -> Option<(usize, u32)> {
        self.taken.get(at).copied()
    }

    /// The shape of the member of a step.
    pub(super) fn inner(&mut self, step: usize) -> &mut Self {
        if self.inner.len() <= step {
            self.inner.resize_with(step + 1, Self::default);
        }
        &mut self.inner[step]
    }
}

impl Plan {
    /// The plan of rules for a whole record.
    pub(super) fn new(rules: &'static [Rule], slots: &mut Slots) -> Self {
        Self::within("", rules, slots)
    }

    /// True when no member goes on by a plan of its own.
    pub(super) fn is_flat(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|step| match step.way {
            Destination::Column(_, how) => !matches!(
                how,
                As::Member(_) | As::Account(_) | As::Path(_) | As::Texts(_)
            ),
            Destination::JsonObject(..) => false,
        })
    }

    fn within(above: &str, rules: &'static [Rule], slots: &mut Slots) -> Self {
        let mut steps = Vec::with_capacity(rules.len());
        for rule in rules {
            let path = format!("{above}{}", rule.member);
            let way = match rule.to {
                To::Column(column, how) => Destination::Column(slots.of(column), how),
                To::JsonObject { rest, rules } => {
                    let plan = Self::within(&format!("{path}."), rules, slots);
                    Destination::JsonObject(rest.map(|column| slots.of(column)), plan)
                }
            };
            steps.push(PlannedRule {
                name: rule.member,
                key: key_of(rule.member),
                // What lies further in is no twin of what does not.
                twin: above.is_empty() && is_twin(rule, rules),
                alternate: rule.alternate,
                path,
                way,
            });
        }
        Self { steps }
    }
}

/// True when `rule` is the only one beside the usual rule of its column, and the two members differ
/// by a capital.
fn is_twin(rule: &Rule, rules: &[Rule]) -> bool {
    let To::Column(column, _) = rule.to else {
        return false;
    };
    let mut others = rules.iter().filter(|other| {
        *other != rule && matches!(other.to, To::Column(name, _) if name == column)
    });
    rule.alternate
        && others.clone().all(|other| !other.alternate)
        && others.any(|usual| is_capitalised(rule.member, usual.member))
}
