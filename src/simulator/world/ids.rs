//! UUIDs that name a thing by kind and number, and can be read back: so the world finds a record
//! by its id without holding any record.

use crate::simulator::dice::hash;

/// What a UUID names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Protect = 1,
    Inspect,
    CloudOffice,
    Incident,
    Device,
    User,
    Rule,
    Group,
    Process,
    Mail,
    Tenant,
    Request,
    Response,
    Late,
    Machine,
    Tag,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::Protect,
        Self::Inspect,
        Self::CloudOffice,
        Self::Incident,
        Self::Device,
        Self::User,
        Self::Rule,
        Self::Group,
        Self::Process,
        Self::Mail,
        Self::Tenant,
        Self::Request,
        Self::Response,
        Self::Late,
        Self::Machine,
        Self::Tag,
    ];
}

const NUMBER_BITS: u32 = 56;
const CHECK_BITS: u32 = 58;

/// The UUIDs of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    seed: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The UUID (version 4 in form) of the `number`-th thing of `kind`.
    pub(crate) fn uuid(self, kind: Kind, number: u64) -> String {
        let number = number & ((1 << NUMBER_BITS) - 1);
        let veiled = self.veil((kind as u64) << NUMBER_BITS | number);
        let value = u128::from(veiled) << CHECK_BITS | u128::from(self.check(veiled));
        let bits = (value >> 74) << 80 // 48 bits
            | 0x4 << 76
            | ((value >> 62) & 0xfff) << 64
            | 0b10 << 62
            | value & ((1 << 62) - 1);
        let hex = format!("{bits:032x}");
        let part = |from, to| hex.get(from..to).unwrap_or_default();
        [
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32),
        ]
        .join("-")
    }

    /// What `uuid` names, when it is one of ours.
    pub(crate) fn parse(self, uuid: &str) -> Option<(Kind, u64)> {
        if uuid.len() != 36 {
            return None;
        }
        let bits = u128::from_str_radix(&uuid.replace('-', ""), 16).ok()?;
        let value = (bits >> 80) << 74 | ((bits >> 64) & 0xfff) << 62 | bits & ((1 << 62) - 1);
        let veiled = u64::try_from(value >> CHECK_BITS).ok()?;
        let plain = self.unveil(veiled);
        let kind = *Kind::ALL
            .iter()
            .find(|kind| **kind as u64 == plain >> NUMBER_BITS)?;
        let number = plain & ((1 << NUMBER_BITS) - 1);
        (self.uuid(kind, number) == uuid.to_ascii_lowercase()).then_some((kind, number))
    }

    /// The 40 hex digits of the `number`-th thing of `kind`.
    pub(crate) fn hex(self, kind: Kind, number: u64) -> String {
        let number = number & ((1 << NUMBER_BITS) - 1);
        let veiled = self.veil((kind as u64) << NUMBER_BITS | number);
        let check = hash(self.seed, &[0xc4ed, veiled]);
        let rest = hash(self.seed, &[0xc4ee, veiled]) >> 32;
        format!("{veiled:016x}{check:016x}{rest:08x}")
    }

    /// The number of the thing of `kind` that 40 hex digits name.
    pub(crate) fn parse_hex(self, kind: Kind, text: &str) -> Option<u64> {
        let veiled = u64::from_str_radix(text.get(..16)?, 16).ok()?;
        let plain = self.unveil(veiled);
        let number = plain & ((1 << NUMBER_BITS) - 1);
        let ours = plain >> NUMBER_BITS == kind as u64 && self.hex(kind, number) == text;
        ours.then_some(number)
    }

    fn check(self, veiled: u64) -> u64 {
        hash(self.seed, &[0xc4ec, veiled]) >> (64 - CHECK_BITS)
    }

    /// A Feistel network: a permutation of 64 bits that looks like chance and runs backwards too.
    fn veil(self, plain: u64) -> u64 {
        let (mut left, mut right) = halves(plain);
        for round in 0..4 {
            (left, right) = (right, left ^ self.round(round, right));
        }
        u64::from(left) << 32 | u64::from(right)
    }

    fn unveil(self, veiled: u64) -> u64 {
        let (mut left, mut right) = halves(veiled);
        for round in (0..4).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        u64::from(left) << 32 | u64::from(right)
    }

    fn round(self, round: u64, half: u32) -> u32 {
        halves(hash(self.seed, &[0xfe15, round, u64::from(half)])).0
    }
}

fn halves(word: u64) -> (u32, u32) {
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    (half(word >> 32), half(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_can_be_read_back() {
        let ids = Ids::new(7);
        for number in [0, 1, 999, 1 << 40] {
            let uuid = ids.uuid(Kind::Inspect, number);
            assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
            assert!(
                matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'),
                "{uuid}"
            );
            assert_eq!(ids.parse(&uuid), Some((Kind::Inspect, number)));
            assert_eq!(Ids::new(8).parse(&uuid), None);
        }
        let hex = ids.hex(Kind::Machine, 59);
        assert_eq!(hex.len(), 40);
        assert_eq!(ids.parse_hex(Kind::Machine, &hex), Some(59));
        assert_eq!(ids.parse_hex(Kind::Device, &hex), None);
        assert_eq!(Ids::new(8).parse_hex(Kind::Machine, &hex), None);
        assert_eq!(ids.parse("not-a-uuid"), None);
        assert_eq!(ids.parse("00000000-0000-4000-8000-000000000000"), None);
    }
}
