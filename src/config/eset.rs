//! The settings of an ESET connection.

use std::{collections::BTreeSet, fmt, num::NonZeroU32};

use super::{
    azure::SecretSource,
    reader::{Noted, Read, Reader},
    values,
};
use crate::core::protocol::choice::Choices;

/// Where ESET answers, unless a setting says otherwise.
const URL_TEMPLATE: &str = "https://{region}.{domain}.eset.systems";

/// ESET answers 429 above ten; one is left for others who use the same account.
const CALLS_PER_SECOND: u32 = 9;

const REGIONS: &[(&str, Region)] = &[
    ("eu", Region::Eu),
    ("us", Region::Us),
    ("jpn", Region::Jpn),
    ("ca", Region::Ca),
    ("de", Region::De),
];

/// Products that write detections.
const PRODUCTS: &[(&str, &str)] = &[
    ("protect", "protect"),
    ("inspect", "inspect"),
    (CLOUD_OFFICE, CLOUD_OFFICE),
];

const CLOUD_OFFICE: &str = "cloud-office";

const STREAMS: &[(&str, &str)] = &[
    ("detections", "detections"),
    ("incidents", "incidents"),
    ("devices", "devices"),
];

/// The stock connector has a flag for each product.
const STOCK_FLAGS: &[(&str, &str)] = &[
    ("EP_INSTANCE", "protect"),
    ("EI_INSTANCE", "inspect"),
    ("ECOS_INSTANCE", CLOUD_OFFICE),
];

/// Who wants everything wants each of the two.
const ENRICH: &[(&str, &[&str])] = &[
    ("none", &[]),
    ("hosts", &["hosts"]),
    ("details", &["details"]),
    ("all", &["hosts", "details"]),
];

/// A data centre. A tenant lives in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ESET's")]
pub enum Region {
    Eu,
    Us,
    Jpn,
    Ca,
    De,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(REGIONS, *self))
    }
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, meant)| *meant == value)
        .map_or("", |(word, _)| word)
}

/// How one ESET tenant is read.
#[derive(Debug, Clone)]
pub struct EsetSettings {
    /// `ESET_REGION`, or `INSTANCE_REGION`. Required.
    pub region: Region,
    /// `ESET_LOGIN`, or `USERNAME_INTEGRATION`. Required.
    pub login: String,
    /// `ESET_PASSWORD`, or `PASSWORD_INTEGRATION`; of a connection `contoso` in `CONNECTIONS`
    /// `CONTOSO_ESET_PASSWORD`, or the flat one when the login is the flat one too. Required, or in the vault: as
    /// `contoso-eset-password`, or `eset-password`.
    pub password: SecretSource,
    /// `ESET_URL_TEMPLATE`; by default ESET's own hosts.
    pub url_template: String,
    /// `ESET_MAX_CALLS_PER_SECOND`, 9 by default.
    pub max_calls_per_second: NonZeroU32,
}

impl EsetSettings {
    /// Where the service `domain` of this tenant answers, such as `incident-management`.
    pub fn base_url(&self, domain: &str) -> String {
        self.url_template
            .replace("{region}", &self.region.to_string())
            .replace("{domain}", domain)
    }

    /// True when somebody wanted an ESET connection.
    pub(super) fn wanted(reader: &Reader<'_>) -> bool {
        ["ESET_REGION", "ESET_LOGIN", "ESET_PASSWORD"]
            .iter()
            .any(|name| reader.is_set(name))
    }

    /// Reads everything before it gives up, so that all problems are noted. Choices are `ESET_PRODUCTS`, or
    /// the stock flags `EP_INSTANCE`, `EI_INSTANCE`, `ECOS_INSTANCE`, by default ESET PROTECT and never none;
    /// `ESET_STREAMS`, detections and incidents by default; and `ESET_ENRICH`, everything by default.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        password: impl FnOnce(&mut Reader<'_>) -> Read<SecretSource>,
    ) -> (Read<Self>, Read<Choices>) {
        let region = reader.required("ESET_REGION", values::one_of(REGIONS));
        let login = reader.required("ESET_LOGIN", values::text);
        let password = password(reader);
        let choices = choices(reader, region.ok());
        let url_template = reader.or(
            "ESET_URL_TEMPLATE",
            URL_TEMPLATE.to_owned(),
            values::url_template,
        );
        let calls = reader.or(
            "ESET_MAX_CALLS_PER_SECOND",
            CALLS_PER_SECOND,
            values::number(1, 1000),
        );
        if calls.is_ok_and(|calls| calls > 10) {
            reader.warn(
                "ESET_MAX_CALLS_PER_SECOND",
                "is more than the 10 calls a second that ESET allows",
            );
        }
        let settings = || {
            Ok(Self {
                region: region?,
                login: login?,
                password: password?,
                url_template: url_template?,
                max_calls_per_second: NonZeroU32::new(calls?).unwrap_or(NonZeroU32::MIN),
            })
        };
        (settings(), choices)
    }
}

fn choices(reader: &mut Reader<'_>, region: Option<Region>) -> Read<Choices> {
    let products = products(reader);
    let usual = BTreeSet::from(["detections", "incidents"]);
    let streams = reader.or("ESET_STREAMS", usual, |list| {
        values::each(list, values::one_of(STREAMS))
    });
    let enrich = reader.or(
        "ESET_ENRICH",
        &["hosts", "details"] as &[&str],
        values::one_of(ENRICH),
    );
    let mut choices = Choices::default();
    choices.add("ESET_PRODUCTS", offered_in(region, products?, reader)?);
    choices.add("ESET_STREAMS", streams?);
    choices.add("ESET_ENRICH", enrich?.iter().copied());
    Ok(choices)
}

fn products(reader: &mut Reader<'_>) -> Read<BTreeSet<&'static str>> {
    let named = reader.optional("ESET_PRODUCTS", |list| {
        values::each(list, values::one_of(PRODUCTS))
    });
    if let Some(products) = named? {
        return not_empty("ESET_PRODUCTS", products, reader);
    }
    let mut flagged = false;
    let mut products = BTreeSet::new();
    for (flag, product) in STOCK_FLAGS {
        let wanted = reader.optional(flag, values::yes_or_no)?;
        flagged |= wanted.is_some();
        if wanted == Some(true) {
            products.insert(*product);
        }
    }
    if !flagged {
        products.insert("protect");
    }
    not_empty("ESET_PRODUCTS", products, reader)
}

/// Cloud Office detections don't exist in Japan; the other products needn't suffer from that.
fn offered_in(
    region: Option<Region>,
    mut products: BTreeSet<&'static str>,
    reader: &mut Reader<'_>,
) -> Read<BTreeSet<&'static str>> {
    if region == Some(Region::Jpn) && products.remove(CLOUD_OFFICE) {
        let text = "names `cloud-office`, which ESET does not offer in the region `jpn`: remove it";
        if products.is_empty() {
            return Err(reader.problem("ESET_PRODUCTS", text));
        }
        reader.warn("ESET_PRODUCTS", text);
    }
    Ok(products)
}

fn not_empty(
    name: &str,
    products: BTreeSet<&'static str>,
    reader: &mut Reader<'_>,
) -> Result<BTreeSet<&'static str>, Noted> {
    if products.is_empty() {
        return Err(reader.problem(
            name,
            "names no product: `protect`, `inspect`, `cloud-office`",
        ));
    }
    Ok(products)
}
