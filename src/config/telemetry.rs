//! What is sent by OpenTelemetry, and where to: the standard names
//! (`opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables`).

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{
    environment::Environment,
    reader::{Problems, Read, Reader},
    values,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// What is sent, and where to.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// Where traces go; nowhere with `OTEL_TRACES_EXPORTER=none`.
    pub traces: Option<String>,
    /// Where metrics go; nowhere with `OTEL_METRICS_EXPORTER=none`.
    pub metrics: Option<String>,
    /// Headers of each request, by name.
    pub headers: Vec<(String, SecretString)>,
    /// How long one request may take.
    pub patience: Duration,
    /// How often metrics are sent.
    pub every: Duration,
    /// Attributes of the resource, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// Which traces are sent.
    pub sampler: Sampler,
}

/// Which traces are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A caller's decision comes first.
    pub parent_based: bool,
    /// This part of them, from 0 to 1.
    pub ratio: f64,
}

impl TelemetrySettings {
    /// The settings; none where no endpoint is set, or `OTEL_SDK_DISABLED` says so.
    ///
    /// # Errors
    /// What is wrong with them: then nothing is sent, and everything else goes on.
    pub fn load(environment: &Environment) -> Result<Option<Self>, Problems> {
        let mut noted = Problems::default();
        let read = Self::read(&mut Reader::new(environment, &mut noted), environment);
        match read {
            Ok(settings) if noted.problems.is_empty() => Ok(settings),
            _ => Err(noted),
        }
    }

    fn read(reader: &mut Reader<'_>, environment: &Environment) -> Read<Option<Self>> {
        let words = [("true", true), ("false", false)];
        let disabled = reader.or("OTEL_SDK_DISABLED", false, values::one_of(&words))?;
        let Some(endpoint) = reader.optional(ENDPOINT, values::platform_url)? else {
            return Ok(None);
        };
        if disabled {
            return Ok(None);
        }
        // A slash at its end is no part of it.
        let endpoint = endpoint.trim_end_matches('/');
        let protocols = [("http/protobuf", ())];
        reader.or(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            (),
            values::one_of(&protocols),
        )?;
        let headers = match reader.secret(HEADERS)? {
            None => Vec::new(),
            Some(_) if values::url(endpoint).is_err() => {
                return Err(reader.problem(
                    HEADERS,
                    format!(
                        "would go over the wire in the clear: begin `{ENDPOINT}` with `https://`"
                    ),
                ));
            }
            Some(text) => match pairs(text.expose_secret()) {
                Some(pairs) => pairs
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect(),
                None => return Err(reader.problem(HEADERS, PAIRS)),
            },
        };
        let signals = [("otlp", true), ("none", false)];
        let traces = reader.or("OTEL_TRACES_EXPORTER", true, values::one_of(&signals))?;
        let metrics = reader.or("OTEL_METRICS_EXPORTER", true, values::one_of(&signals))?;
        let milliseconds = values::number(1, 3_600_000);
        let patience = reader.or("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, milliseconds)?;
        let milliseconds = values::number(1, 3_600_000);
        let every = reader.or("OTEL_METRIC_EXPORT_INTERVAL", 60_000, milliseconds)?;
        let listed = |text: &str| pairs(text).ok_or_else(|| PAIRS.to_owned());
        let mut resource = reader.or("OTEL_RESOURCE_ATTRIBUTES", Vec::new(), listed)?;
        // The name of its own comes first, then one of the list.
        let service = reader.optional("OTEL_SERVICE_NAME", values::text)?;
        let is_named = resource.iter().any(|(name, _)| name == "service.name");
        if service.is_some() || !is_named {
            resource.retain(|(name, _)| name != "service.name");
            let name = service.unwrap_or_else(|| "sentinel-connector".to_owned());
            resource.push(("service.name".to_owned(), name));
        }
        let in_azure = [
            ("WEBSITE_SITE_NAME", "faas.name"),
            ("WEBSITE_INSTANCE_ID", "faas.instance"),
        ];
        for (setting, name) in in_azure {
            if let Some(value) = environment.get(setting) {
                resource.push((name.to_owned(), value.to_owned()));
            }
        }
        let at = |path| format!("{endpoint}/v1/{path}");
        Ok(Some(Self {
            traces: traces.then(|| at("traces")),
            metrics: metrics.then(|| at("metrics")),
            headers,
            patience: Duration::from_millis(patience.into()),
            every: Duration::from_millis(every.into()),
            resource,
            sampler: Self::sampler(reader)?,
        }))
    }

    fn sampler(reader: &mut Reader<'_>) -> Read<Sampler> {
        let of = |parent_based, ratio| Sampler {
            parent_based,
            ratio,
        };
        let words = [
            ("always_on", (of(false, 1.0), false)),
            ("always_off", (of(false, 0.0), false)),
            ("traceidratio", (of(false, 1.0), true)),
            ("parentbased_always_on", (of(true, 1.0), false)),
            ("parentbased_always_off", (of(true, 0.0), false)),
            ("parentbased_traceidratio", (of(true, 1.0), true)),
        ];
        let usual = (of(true, 1.0), false);
        let (sampler, takes_ratio) =
            reader.or("OTEL_TRACES_SAMPLER", usual, values::one_of(&words))?;
        if !takes_ratio {
            return Ok(sampler);
        }
        let ratio = |value: &str| match value.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err(format!("is `{value}`; it must be a number from 0 to 1")),
        };
        let ratio = reader.or(SAMPLER_ARG, 1.0, ratio)?;
        Ok(Sampler { ratio, ..sampler })
    }
}

const PAIRS: &str = "must be pairs such as `name=value,other=value`, percent-encoded";

/// The pairs of a list; none where something else stands in it.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let decoded = percent_encoding::percent_decode_str(value.trim());
            let name = name.trim();
            (!name.is_empty())
                .then(|| Some((name.to_owned(), decoded.decode_utf8().ok()?.into_owned())))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Option<TelemetrySettings>, Problems> {
        TelemetrySettings::load(&pairs.iter().copied().collect())
    }

    #[test]
    fn nothing_is_sent_without_an_endpoint_or_where_it_is_switched_off() {
        assert!(load(&[]).unwrap().is_none());
        assert!(load(&[("OTEL_SERVICE_NAME", "a")]).unwrap().is_none());
        let off = [
            (ENDPOINT, "http://collector:4318"),
            ("OTEL_SDK_DISABLED", "true"),
        ];
        assert!(load(&off).unwrap().is_none());
    }

    #[test]
    fn the_paths_of_the_signals_follow_the_endpoint() {
        let settings = load(&[(ENDPOINT, "http://collector:4318/")])
            .unwrap()
            .unwrap();
        assert_eq!(
            settings.traces.as_deref(),
            Some("http://collector:4318/v1/traces")
        );
        assert_eq!(
            settings.metrics.as_deref(),
            Some("http://collector:4318/v1/metrics")
        );
        let one = [(ENDPOINT, "https://c"), ("OTEL_METRICS_EXPORTER", "none")];
        let settings = load(&one).unwrap().unwrap();
        assert_eq!((settings.traces.is_some(), settings.metrics), (true, None));
    }

    #[test]
    fn the_name_of_the_service_is_the_own_setting_then_one_of_the_list_then_ours() {
        let name = |more: &[(&str, &str)]| {
            let all = [&[(ENDPOINT, "https://c")], more].concat();
            let resource = load(&all).unwrap().unwrap().resource;
            let names = resource
                .into_iter()
                .filter(|(name, _)| name == "service.name");
            names.map(|(_, value)| value).collect::<Vec<_>>()
        };
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b%20c,a=1");
        assert_eq!(name(&[]), ["sentinel-connector"]);
        assert_eq!(name(&[list]), ["b c"]);
        assert_eq!(name(&[list, ("OTEL_SERVICE_NAME", "d")]), ["d"]);
    }

    #[test]
    fn what_is_not_spoken_here_is_refused_with_the_word_for_it_and_no_secret() {
        for (name, value, words) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "`http/protobuf`"),
            (
                "OTEL_TRACES_SAMPLER",
                "jaeger_remote",
                "`parentbased_always_on`",
            ),
            ("OTEL_RESOURCE_ATTRIBUTES", "canary", "pairs"),
            (HEADERS, "canary", "pairs"),
        ] {
            let problems = load(&[(ENDPOINT, "https://c"), (name, value)]).unwrap_err();
            let text = problems.to_string();
            assert!(text.contains(name) && text.contains(words), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn headers_never_go_in_the_clear_to_another_machine() {
        let headers = (HEADERS, "api-key=canary");
        let text = load(&[(ENDPOINT, "http://collector:4318"), headers])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("https://") && !text.contains("canary"),
            "{text}"
        );
        for endpoint in ["https://collector", "http://127.0.0.1:4318"] {
            let settings = load(&[(ENDPOINT, endpoint), headers]).unwrap().unwrap();
            let [(name, value)] = &settings.headers[..] else {
                panic!("{settings:?}");
            };
            assert_eq!((&**name, value.expose_secret()), ("api-key", "canary"));
            assert!(!format!("{settings:?}").contains("canary"));
        }
    }

    #[test]
    fn a_sampler_takes_its_ratio_where_it_has_one() {
        let sampler = |name: &str, ratio: &str| {
            let all = [
                (ENDPOINT, "https://c"),
                ("OTEL_TRACES_SAMPLER", name),
                (SAMPLER_ARG, ratio),
            ];
            load(&all).map(|settings| settings.unwrap().sampler)
        };
        let of = |parent_based, ratio| Sampler {
            parent_based,
            ratio,
        };
        assert_eq!(sampler("traceidratio", "0.25").unwrap(), of(false, 0.25));
        assert_eq!(sampler("always_off", "0.25").unwrap(), of(false, 0.0));
        assert_eq!(
            sampler("parentbased_traceidratio", "1").unwrap(),
            of(true, 1.0)
        );
        assert!(sampler("traceidratio", "2").is_err());
    }
}
