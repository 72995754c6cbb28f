//! What machines are found by, in one spelling.

use ::core::net::{IpAddr, Ipv6Addr};

use super::plain;

/// What somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// The key of what it may be: an address, a host name or an id.
    Key(String),
    /// An address that many machines have at once, or none.
    NoOnes(IpAddr),
    /// Nothing.
    Nothing,
}

impl Sought {
    /// What a text may mean.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        match address(bare.unwrap_or(text)) {
            Some(address) if tells_apart(&address) => Self::Key(address.to_string()),
            Some(address) => Self::NoOnes(address),
            None => match plain(text) {
                name if name.is_empty() => Self::Nothing,
                name => Self::Key(name),
            },
        }
    }
}

/// An address in whatever spelling; an IPv4 address inside an IPv6 one is itself.
pub fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    // `fe80::1%eth0`: the zone means something on that machine alone.
    let text = text.split('%').next().unwrap_or(text);
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// False for addresses that say nothing about which machine has them.
pub(super) fn tells_apart(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => is_unicast_link_local(*address),
    };
    !(is_link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// True in `fe80::/10`.
fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first & 0xffc0 == 0xfe80
}

/// The keys of a host name: whole, and without its domain. An address in the place of a name is
/// none.
pub fn host_keys(name: &str) -> Vec<String> {
    let whole = plain(name);
    if whole.is_empty() || address(&whole).is_some() {
        return Vec::new();
    }
    let short = whole.split('.').next().unwrap_or_default().to_owned();
    let mut keys = vec![whole];
    if !short.is_empty() && !keys.contains(&short) {
        keys.push(short);
    }
    keys
}
