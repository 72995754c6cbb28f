//! Columns that are filled from an element of a list.

use std::{borrow::Cow, net::IpAddr};

use serde_json::value::RawValue;

use super::{
    cells::{Cells, Origin, usually_fill},
    convert::{joined, stands_for_none},
    plan::{Slot, Slots},
};
use crate::core::{
    json::record::{JsonObject, JsonSlice, text_of},
    mapping::{
        assets::address,
        from_list::{Better, EntityKind, FillWith, FromList},
        rule::Rule,
        shorten::quoted,
    },
};

/// [`FromList`], laid out for the columns of a stream's rows.
#[derive(Debug, Clone)]
pub(super) struct Picker {
    list: &'static str,
    kind: &'static str,
    things: Vec<PickedEntity>,
    better: Option<(PickedColumn, Better)>,
}

/// Columns that tell of one thing.
#[derive(Debug, Clone)]
struct PickedEntity {
    columns: Vec<PickedColumn>,
    kinds: &'static [EntityKind],
}

#[derive(Debug, Clone, Copy)]
struct PickedColumn {
    slot: Slot,
    /// A member of the record usually fills it, so that a row has to say that this one did not.
    has_usual: bool,
}

/// The elements of a list, each with its kind.
type Elements<'a> = Vec<(Cow<'a, str>, JsonObject<'a>)>;

impl Picker {
    pub(super) fn new(picks: &FromList, rules: &[Rule], slots: &mut Slots) -> Self {
        let mut thing = |kinds: &'static [EntityKind]| {
            let mut columns: Vec<PickedColumn> = Vec::new();
            for fill in kinds.iter().flat_map(|kind| kind.fills) {
                let slot = slots.of(fill.column);
                if columns.iter().all(|known| known.slot != slot) {
                    let has_usual = usually_fill(rules, fill.column);
                    columns.push(PickedColumn { slot, has_usual });
                }
            }
            PickedEntity { columns, kinds }
        };
        let things = picks.things.iter().map(|kinds| thing(kinds)).collect();
        let better = picks.better.map(|better| {
            let slot = slots.of(better.column);
            let has_usual = usually_fill(rules, better.column);
            (PickedColumn { slot, has_usual }, better)
        });
        Self {
            list: picks.list,
            kind: picks.kind,
            things,
            better,
        }
    }

    /// Fills what an element says better than the record, of the same thing.
    pub(super) fn fill_better<'a>(&self, record: &JsonObject<'a>, cells: &mut Cells<'a, '_>) {
        let Some((column, better)) = self.better else {
            return;
        };
        let Some(own) = at(record, better.own).and_then(content) else {
            return;
        };
        let elements = record.get(self.list).map(|list| self.elements(list));
        let found = elements
            .unwrap_or_default()
            .into_iter()
            .find_map(|(kind, element)| {
                let name = (kind == better.kind).then(|| member(&element, "", better.same))??;
                let value = text(&element, better.value)?;
                name.eq_ignore_ascii_case(&own)
                    .then(|| value.get().to_owned())
            });
        if let Some(json) = found {
            let origin = if column.has_usual {
                Origin::Picked(self.list)
            } else {
                Origin::Usual
            };
            cells.add(column.slot, &json, origin);
        }
    }

    /// Fills the columns of things that the record itself does not tell of.
    pub(super) fn fill<'a>(&self, record: &JsonObject<'a>, cells: &mut Cells<'a, '_>) {
        let Some(list) = record.get(self.list) else {
            return;
        };
        let elements = self.elements(list);
        for thing in &self.things {
            let mut columns = thing.columns.iter();
            if columns.any(|column| cells.has(column.slot)) {
                continue;
            }
            for (column, json) in thing.pick(&elements) {
                let origin = if column.has_usual {
                    Origin::Picked(self.list)
                } else {
                    Origin::Usual
                };
                cells.add(column.slot, &json, origin);
            }
        }
    }

    fn elements<'a>(&self, list: JsonSlice<'a>) -> Elements<'a> {
        let all: Vec<&'a RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
        let element = |element: &'a RawValue| {
            let members = JsonObject::of_value(element)?;
            let kind = match members.text(self.kind)? {
                Cow::Borrowed(kind) => last_part(kind).into(),
                Cow::Owned(kind) => last_part(&kind).to_owned().into(),
            };
            Some((kind, members))
        };
        all.into_iter().filter_map(element).collect()
    }
}

/// `#microsoft.graph.security.fileEvidence` → `fileEvidence`.
fn last_part(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

impl PickedEntity {
    /// The columns that are filled, with their values.
    fn pick<'a>(&self, elements: &Elements<'a>) -> Vec<(PickedColumn, Cow<'a, str>)> {
        for kind in self.kinds {
            let same = elements.iter().filter(|(name, _)| name == kind.name);
            for (_, element) in same {
                let picked = self.from(kind, element);
                if !picked.is_empty() {
                    return picked;
                }
            }
        }
        Vec::new()
    }

    fn from<'a>(
        &self,
        kind: &EntityKind,
        element: &JsonObject<'a>,
    ) -> Vec<(PickedColumn, Cow<'a, str>)> {
        let mut says_more = false;
        let mut picked = Vec::new();
        for fill in kind.fills {
            let mut columns = self.columns.iter();
            let column = columns.find(|column| column.slot.column == fill.column);
            let is_open = |column: &&PickedColumn| {
                let mut known = picked
                    .iter()
                    .map(|(known, _): &(PickedColumn, _)| known.slot);
                known.all(|known| known != column.slot)
            };
            let column = column.filter(is_open);
            let value = value(element, fill.with);
            if let (Some(column), Some(value)) = (column, value) {
                says_more |= !matches!(fill.with, FillWith::Always(_));
                picked.push((*column, value));
            }
        }
        if !says_more {
            picked.clear();
        }
        picked
    }
}

/// What a column gets of an element, as JSON.
fn value<'a>(element: &JsonObject<'a>, with: FillWith) -> Option<Cow<'a, str>> {
    let text = |path| text(element, path).map(|text| text.get().into());
    match with {
        FillWith::Text(paths) => paths.iter().find_map(|path| text(path)),
        FillWith::First(path) => {
            let list: Vec<&'a RawValue> = serde_json::from_str(at(element, path)?.get()).ok()?;
            let mut texts = list
                .into_iter()
                .filter(|value| value.get().starts_with("\"http"));
            texts.next().map(|text| text.get().into())
        }
        FillWith::Integer(path) => {
            let number = at(element, path)?.get();
            number.parse::<i32>().ok().map(|_| number.into())
        }
        FillWith::File(path) => {
            let name = member(element, path, "fileName")?;
            let folder = member(element, path, "filePath");
            Some(quoted(&joined(&folder.unwrap_or_default(), &name)).into())
        }
        FillWith::Account(path) => {
            let says = |name| member(element, path, name);
            let written = match (says("userPrincipalName"), says("domainName")) {
                (Some(name), _) => name.into_owned(),
                (None, Some(domain)) => format!("{domain}\\{}", says("accountName")?),
                (None, None) => says("accountName")?.into_owned(),
            };
            Some(quoted(&written).into())
        }
        FillWith::Remote(path) => {
            let written = content(at(element, path)?)?;
            address(&written).filter(is_public)?;
            Some(format!("{{\"remoteIpAddress\":{}}}", quoted(&written)).into())
        }
        FillWith::Always(text) => Some(quoted(text).into()),
    }
}

/// A member, perhaps one further in.
fn at<'a>(element: &JsonObject<'a>, path: &str) -> Option<JsonSlice<'a>> {
    match path.split_once('.') {
        None => element.get(path),
        Some((outer, inner)) => at(&JsonObject::of_value(element.get(outer)?)?, inner),
    }
}

/// The text at the end of a path of members.
fn text<'a>(element: &JsonObject<'a>, path: &str) -> Option<JsonSlice<'a>> {
    at(element, path).filter(|value| value.get().starts_with('"') && !stands_for_none(*value))
}

/// What a text says.
fn content(value: JsonSlice<'_>) -> Option<Cow<'_, str>> {
    let is_text = value.get().starts_with('"') && !stands_for_none(value);
    is_text.then(|| text_of(value))?
}

/// What a member of an object of the element says: of the element itself when there is no path.
fn member<'a>(element: &JsonObject<'a>, path: &str, name: &str) -> Option<Cow<'a, str>> {
    if path.is_empty() {
        return content(element.get(name)?);
    }
    content(JsonObject::of_value(at(element, path)?)?.get(name)?)
}

/// True for addresses that are the same seen from anywhere.
fn is_public(address: &IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // `0.0.0.0/8` is this network, `100.64.0.0/10` a provider's own.
            let is_shared = first == 0 || (first == 100 && second & 0xc0 == 64);
            let is_own = address.is_private() || address.is_link_local();
            is_shared || is_own || address.is_broadcast()
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    !(is_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_name_are_one_path_of_their_system() {
        let cases = [
            ("C:\\Windows", "a.exe", "C:\\Windows\\a.exe"),
            ("C:\\", "a.exe", "C:\\a.exe"),
            ("/usr/bin", "sh", "/usr/bin/sh"),
            ("/", "init", "/init"),
            ("", "a.exe", "a.exe"),
            // Some tell the whole path where the folder belongs.
            ("c:\\temp\\A.exe", "a.exe", "c:\\temp\\A.exe"),
            ("/opt/tool/tool.sh", "tool.sh", "/opt/tool/tool.sh"),
        ];
        for (folder, name, whole) in cases {
            assert_eq!(joined(folder, name), whole);
        }
    }

    #[test]
    fn only_a_public_address_is_the_other_side_for_certain() {
        let public = |text| address(text).is_some_and(|address| is_public(&address));
        for text in [
            "203.0.113.9",
            "100.128.0.1",
            "2001:db8::7",
            "::ffff:8.8.8.8",
        ] {
            assert!(public(text), "{text}");
        }
        for text in [
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!public(text), "{text}");
        }
    }
}
