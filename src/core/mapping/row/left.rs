//! What of a record no column took.

use super::{is_ours, object::ObjectWriter};
use crate::core::json::record::{JsonObject, Member};

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberOutcome {
    /// No rule has come to it.
    Open,
    /// A column holds all of it.
    Taken,
    /// Columns hold some of its members; what is left of it is the part with this number.
    Partly(u8),
    /// It is left over as it is.
    Kept,
}

/// What became of the members of one object.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// By the places of the members.
    outcomes: Vec<MemberOutcome>,
    /// What is left of members of which columns hold some.
    parts: Vec<String>,
    /// A member has a name of ours.
    has_ours: bool,
}

impl Left {
    /// All of `record`, which has the names of the one before if `same`.
    pub(super) fn begin(&mut self, record: &JsonObject<'_>, same: bool) {
        self.parts.clear();
        self.outcomes.clear();
        self.outcomes.resize(record.places(), MemberOutcome::Open);
        if !same {
            self.has_ours = record.members().any(|member| is_ours(member.name()));
        }
    }

    /// What is left of a member of which columns hold some.
    pub(super) fn part(&mut self, left: String) -> MemberOutcome {
        // No plan has so many steps that this fails.
        u8::try_from(self.parts.len()).map_or(MemberOutcome::Kept, |part| {
            self.parts.push(left);
            MemberOutcome::Partly(part)
        })
    }

    /// Of two rules for a member the first says what became of it, unless the other one takes all of
    /// what this one left.
    pub(super) fn note(&mut self, at: u32, outcome: MemberOutcome) {
        let noted = self.outcomes.get_mut(at as usize);
        let says = |noted: &&mut MemberOutcome| {
            **noted == MemberOutcome::Open
                || (**noted == MemberOutcome::Kept && outcome == MemberOutcome::Taken)
        };
        if let Some(noted) = noted.filter(says) {
            *noted = outcome;
        }
    }

    /// Writes what no column took of the members of `record`. Names of ours are made to differ.
    pub(super) fn write(&self, record: &JsonObject<'_>, object: &mut ObjectWriter<'_>) {
        self.each::<true>(record, object);
    }

    /// What is left of an inner object, as text; `None` when nothing is.
    pub(super) fn text(&self, record: &JsonObject<'_>) -> Option<String> {
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        self.each::<false>(record, &mut object);
        object.close().then_some(text)
    }

    /// What no column took of the members of `record`, each with its value as text.
    pub(super) fn members<'l>(
        &'l self,
        record: &'l JsonObject<'_>,
    ) -> impl Iterator<Item = (&'l str, &'l str)> {
        let left = self.left(record);
        left.map(|(member, part)| (member.name(), part.unwrap_or(member.value().get())))
    }

    /// Members that say something and that no column took, each with the part that is left of it, if
    /// columns hold some.
    fn left<'l, 'a>(
        &'l self,
        record: &'l JsonObject<'a>,
    ) -> impl Iterator<Item = (Member<'l, 'a>, Option<&'l str>)> {
        let all = record.members().zip(&self.outcomes);
        let left =
            all.filter(|(member, outcome)| **outcome != MemberOutcome::Taken && member.says());
        left.map(|(member, outcome)| {
            let part = match outcome {
                MemberOutcome::Partly(part) => self.parts.get(usize::from(*part)),
                _ => None,
            };
            (member, part.map(String::as_str))
        })
    }

    /// The places of the first and the last of the members that are left side by side, of an object no
    /// part of whose members is left. `None` when one of them is not left as it is written.
    pub(super) fn runs(&self, record: &JsonObject<'_>) -> Option<Vec<(u32, u32)>> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut end = 0;
        for (at, (member, outcome)) in (0..).zip(record.members().zip(&self.outcomes)) {
            if *outcome == MemberOutcome::Taken || !member.says() {
                continue;
            }
            let written = member.written()?;
            match runs.last_mut().filter(|_| written.start == end + 1) {
                Some((_, last)) => *last = at,
                None => runs.push((at, at)),
            }
            end = written.end;
        }
        (!self.has_ours).then_some(runs)
    }

    /// Members that are left side by side are written at once.
    fn each<const OUTER: bool>(&self, record: &JsonObject<'_>, object: &mut ObjectWriter<'_>) {
        let text = record.as_written();
        // Of what is written side by side.
        let (mut start, mut end) = (0, 0);
        for (member, part) in self.left(record) {
            let is_ours = OUTER && self.has_ours && is_ours(member.name());
            if let Some(written) = member.written().filter(|_| part.is_none() && !is_ours) {
                // One byte between two members is a comma.
                if start == 0 || written.start != end + 1 {
                    object.push_written(text.get(start..end).unwrap_or_default());
                    start = written.start;
                }
                end = written.end;
                continue;
            }
            object.push_written(text.get(start..end).unwrap_or_default());
            (start, end) = (0, 0);
            let value = part.unwrap_or(member.value().get());
            if part.is_none() && is_ours {
                object.push(&format!("@{}", member.name()), value);
            } else {
                object.push(member.name(), value);
            }
        }
        object.push_written(text.get(start..end).unwrap_or_default());
    }
}
