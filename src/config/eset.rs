//! The settings of an ESET connection.

use std::{collections::BTreeSet, fmt, num::NonZeroU32};

use secrecy::SecretString;

use super::{
    reader::{Noted, Read, Reader},
    values,
};

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

const PRODUCTS: &[(&str, Product)] = &[
    ("protect", Product::Protect),
    ("inspect", Product::Inspect),
    ("cloud-office", Product::CloudOffice),
];

/// The stock connector has a flag for each product.
const STOCK_FLAGS: &[(&str, Product)] = &[
    ("EP_INSTANCE", Product::Protect),
    ("EI_INSTANCE", Product::Inspect),
    ("ECOS_INSTANCE", Product::CloudOffice),
];

const ENRICH: &[(&str, Enrich)] = &[
    ("none", Enrich::None),
    ("hosts", Enrich::Hosts),
    ("details", Enrich::Details),
    ("all", Enrich::All),
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

/// A product that writes detections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// ESET PROTECT.
    Protect,
    /// ESET Inspect.
    Inspect,
    /// ESET Cloud Office Security.
    CloudOffice,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(PRODUCTS, *self))
    }
}

/// What is looked up for each detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrich {
    /// Nothing: the fewest calls.
    None,
    /// The names of the devices.
    Hosts,
    /// The full detection, which has more members than the list.
    Details,
    /// Both.
    All,
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
    /// `CONTOSO_ESET_PASSWORD`, or the flat one when the login is the flat one too. Required.
    pub password: SecretString,
    /// `ESET_PRODUCTS`, or the stock flags `EP_INSTANCE`, `EI_INSTANCE`, `ECOS_INSTANCE`; by
    /// default ESET PROTECT. Never empty.
    pub products: BTreeSet<Product>,
    /// `ESET_URL_TEMPLATE`; by default ESET's own hosts.
    pub url_template: String,
    /// `ESET_MAX_CALLS_PER_SECOND`, 9 by default.
    pub max_calls_per_second: NonZeroU32,
    /// `ESET_ENRICH`, everything by default.
    pub enrich: Enrich,
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

    /// Reads everything before it gives up, so that all problems are noted.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        password: impl FnOnce(&mut Reader<'_>) -> Read<SecretString>,
    ) -> Read<Self> {
        let region = reader.required("ESET_REGION", values::one_of(REGIONS));
        let login = reader.required("ESET_LOGIN", values::text);
        let password = password(reader);
        let products = products(reader);
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
        let enrich = reader.or("ESET_ENRICH", Enrich::All, values::one_of(ENRICH));

        let (region, calls) = (region?, calls?);
        if calls > 10 {
            reader.warn(
                "ESET_MAX_CALLS_PER_SECOND",
                "is more than the 10 calls a second that ESET allows",
            );
        }
        Ok(Self {
            region,
            login: login?,
            password: password?,
            products: offered_in(region, products?, reader)?,
            url_template: url_template?,
            max_calls_per_second: NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN),
            enrich: enrich?,
        })
    }
}

fn products(reader: &mut Reader<'_>) -> Read<BTreeSet<Product>> {
    let parse = |list: &str| {
        list.split(',')
            .map(str::trim)
            .filter(|product| !product.is_empty())
            .map(values::one_of(PRODUCTS))
            .collect::<Result<BTreeSet<_>, _>>()
    };
    if let Some(products) = reader.optional("ESET_PRODUCTS", parse)? {
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
        products.insert(Product::Protect);
    }
    not_empty("ESET_PRODUCTS", products, reader)
}

/// Cloud Office detections don't exist in Japan; the other products needn't suffer from that.
fn offered_in(
    region: Region,
    mut products: BTreeSet<Product>,
    reader: &mut Reader<'_>,
) -> Read<BTreeSet<Product>> {
    if region == Region::Jpn && products.remove(&Product::CloudOffice) {
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
    products: BTreeSet<Product>,
    reader: &mut Reader<'_>,
) -> Result<BTreeSet<Product>, Noted> {
    if products.is_empty() {
        return Err(reader.problem(
            name,
            "names no product: `protect`, `inspect`, `cloud-office`",
        ));
    }
    Ok(products)
}
