//! Which links of an answer are followed: the access token goes with each.

use http::Uri;

/// The hosts of the service, cloud by cloud: the next page may lie on another than was asked.
const TRUSTED: &[&[&str]] = &[
    &[
        ".security.microsoft.com",
        ".securitycenter.microsoft.com",
        ".securitycenter.windows.com",
    ],
    &[".securitycenter.microsoft.us", ".security.microsoft.us"],
];

/// True when a link that an answer of `base` holds leads to where the token may go.
pub(super) fn admits(base: &str, link: &str) -> bool {
    let (Ok(link), Ok(base)) = (link.parse::<Uri>(), base.parse::<Uri>()) else {
        return false;
    };
    let same = link.scheme() == base.scheme() && link.authority() == base.authority();
    let (host, base_host) = (
        link.host().unwrap_or_default(),
        base.host().unwrap_or_default(),
    );
    let is_of = |cloud: &[&str], host: &str| cloud.iter().any(|suffix| host.ends_with(suffix));
    let mut clouds = TRUSTED.iter();
    let one_cloud = clouds.any(|cloud| is_of(cloud, host) && is_of(cloud, base_host));
    same || link.scheme_str() == Some("https") && link.port().is_none() && one_cloud
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_no_foreign_host() {
        const GEO: &str = "https://eu.api.security.microsoft.com";
        const GOV: &str = "https://api-gov.securitycenter.microsoft.us";
        const GRAPH: &str = "https://graph.microsoft.com";
        for (base, link, admitted) in [
            (
                GEO,
                "https://eu.api.security.microsoft.com/api/x?$skiptoken=1",
                true,
            ),
            (GEO, "https://api.security.microsoft.com/api/x", true),
            (
                GEO,
                "https://api-eu3.securitycenter.microsoft.com/api/x",
                true,
            ),
            (GEO, "https://api.securitycenter.windows.com/api/x", true),
            (
                GOV,
                "https://api-gcc.securitycenter.microsoft.us/api/x",
                true,
            ),
            (GRAPH, "https://graph.microsoft.com/v1.0/x", true),
            (
                "https://sim:8443/defender",
                "https://sim:8443/defender/x",
                true,
            ),
            // Another host, however it is spelled.
            (GEO, "https://collector.example/api/x", false),
            (
                GEO,
                "https://api.security.microsoft.com.collector.example/x",
                false,
            ),
            (GEO, "https://api-security.microsoft.com/x", false),
            (
                GEO,
                "https://api.security.microsoft.com@collector.example/x",
                false,
            ),
            (
                GEO,
                "https://collector.example/?x=.security.microsoft.com",
                false,
            ),
            (
                GEO,
                "https://collector.example#.security.microsoft.com",
                false,
            ),
            (GEO, "https://wdatpprd.cloudapp.net/api/x", false),
            // Another cloud, port or protocol, or none.
            (
                GEO,
                "https://api-gov.securitycenter.microsoft.us/api/x",
                false,
            ),
            (GOV, "https://api.security.microsoft.com/api/x", false),
            (
                GEO,
                "https://eu.api.security.microsoft.com:8443/api/x",
                false,
            ),
            (GEO, "http://eu.api.security.microsoft.com/api/x", false),
            (GRAPH, "https://api.security.microsoft.com/api/x", false),
            ("https://sim:8443/defender", "https://sim/defender/x", false),
            (
                "https://sim",
                "https://api.security.microsoft.com/api/x",
                false,
            ),
            (GEO, "//api.security.microsoft.com/api/x", false),
            (GEO, "/api/x", false),
            (GEO, "", false),
        ] {
            assert_eq!(admits(base, link), admitted, "from {base} to {link}");
        }
    }
}
