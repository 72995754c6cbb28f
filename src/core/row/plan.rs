//! Rules, laid out so that a member's name finds its rules at once.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::core::{
    identity::is_capitalised,
    mapping::{As, Rule, To},
    record::Member,
    scan::{Keys, key_of},
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
pub(super) enum Way {
    /// To a column.
    Column(Slot, As),
    /// Its members go on by a plan of their own, what they leave over to the column, else to
    /// `additionalFields`.
    Members(Option<Slot>, Plan),
}

/// A rule, as part of a [`Plan`].
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Which of the plan's names its member has.
    pub(super) name: usize,
    /// The member with those around it: `context.process.path`.
    pub(super) path: String,
    pub(super) way: Way,
    /// Another member is the usual one for the column.
    pub(super) alternate: bool,
    /// That other one is the same but for a capital, and there is no further one.
    pub(super) twin: bool,
}

/// The rules for the members of one object, in their order.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Names and their numbers, by their keys.
    names: HashMap<u64, (&'static str, usize), FixedState>,
    keys: Keys,
}

impl Plan {
    /// The plan of rules for a whole record.
    pub(super) fn new(rules: &'static [Rule], slots: &mut Slots) -> Self {
        Self::within("", rules, slots)
    }

    fn within(above: &str, rules: &'static [Rule], slots: &mut Slots) -> Self {
        let mut names = HashMap::with_hasher(FixedState::default());
        let mut steps = Vec::with_capacity(rules.len());
        for rule in rules {
            let next = names.len();
            let path = format!("{above}{}", rule.member);
            let way = match rule.to {
                To::Column(column, how) => Way::Column(slots.of(column), how),
                To::Members { rest, rules } => {
                    let plan = Self::within(&format!("{path}."), rules, slots);
                    Way::Members(rest.map(|column| slots.of(column)), plan)
                }
            };
            steps.push(Step {
                name: names
                    .entry(key_of(rule.member))
                    .or_insert((rule.member, next))
                    .1,
                // What lies further in is no twin of what does not.
                twin: above.is_empty() && is_twin(rule, rules),
                alternate: rule.alternate,
                path,
                way,
            });
        }
        let keys = names.keys().copied().collect();
        Self { steps, names, keys }
    }

    /// How many names there are.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// Which of the names this member has.
    pub(super) fn name(&self, member: Member<'_, '_>) -> Option<usize> {
        let key = member.key();
        if !self.keys.may_hold(key) {
            return None;
        }
        let (name, number) = self.names.get(&key)?;
        (member.name() == *name).then_some(*number)
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
