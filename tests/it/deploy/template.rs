//! Rules that a template has to keep, whatever it deploys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    azure::entries,
    expression::Expression::{self, Call, Text},
    functions,
};

/// Kinds of resources that have no region.
const GLOBAL: &[&str] = &[
    "Microsoft.Insights/actionGroups",
    "Microsoft.Network/privateDnsZones",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
];

/// Kinds that are named without being resources of the template.
const ELSEWHERE: &[&str] = &[
    "Microsoft.Authorization/roleDefinitions",
    // Part of their network.
    "Microsoft.Network/virtualNetworks/subnets",
];

/// What the name of something secret holds.
const SECRET: &[&str] = &[
    "password",
    "secret",
    "token",
    "accesskey",
    "apikey",
    "connectionstring",
];

/// A template, or one that is nested in it.
struct Scope<'a> {
    body: &'a Value,
    path: String,
    /// Every string that holds an expression, with its place.
    expressions: Vec<(String, Expression)>,
}

/// Everything that is wrong with a template. `versions` are the API versions there are, by type.
pub(super) fn findings(template: &Value, versions: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut scopes = Vec::new();
    scope(template, String::new(), &mut scopes, &mut found);
    let declared: BTreeSet<&str> = scopes
        .iter()
        .flat_map(Scope::resources)
        .filter_map(|(_, resource)| resource["type"].as_str())
        .collect();
    for scope in &scopes {
        let mut here = Vec::new();
        here.extend(scope.calls());
        here.extend(scope.names_without_meaning());
        here.extend(scope.unused());
        here.extend(scope.secrets());
        if scope.path.is_empty() {
            here.extend(scope.lengths());
        }
        here.extend(scope.regions());
        here.extend(scope.outputs());
        here.extend(scope.types(&declared));
        here.extend(scope.versions(versions));
        here.extend(scope.addresses());
        here.extend(scope.roles());
        here.extend(scope.skips());
        found.extend(
            here.into_iter()
                .map(|finding| format!("{}: {finding}", scope.path)),
        );
    }
    found
}

fn scope<'a>(body: &'a Value, path: String, scopes: &mut Vec<Scope<'a>>, found: &mut Vec<String>) {
    let mut expressions = Vec::new();
    let mut nested = Vec::new();
    collect(
        body,
        &path,
        &mut |place, text| match Expression::of(text) {
            Ok(Some(expression)) => expressions.push((place.to_owned(), expression)),
            Ok(None) => {}
            Err(error) => found.push(format!("{place}: {error}")),
        },
        &mut |place, template| nested.push((place, template)),
    );
    scopes.push(Scope {
        body,
        path,
        expressions,
    });
    for (place, template) in nested {
        scope(template, place, scopes, found);
    }
}

fn collect<'a>(
    value: &'a Value,
    path: &str,
    each: &mut impl FnMut(&str, &'a str),
    nested: &mut impl FnMut(String, &'a Value),
) {
    match value {
        Value::String(text) => each(path, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{path}/{index}"), each, nested);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{path}/{name}");
                each(&place, name);
                if path.ends_with("/properties") && name == "template" {
                    nested(place, member);
                } else {
                    collect(member, &place, each, nested);
                }
            }
        }
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

fn is_secure(declared: &Value) -> bool {
    let kind = declared["type"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    kind == "securestring" || kind == "secureobject"
}

/// The name that is asked of `parameters` or `variables`.
fn asked<'a>(expression: &'a Expression, function: &'a str) -> impl Iterator<Item = &'a str> {
    expression
        .calls(function)
        .filter_map(|arguments| match arguments {
            [Text(name)] => Some(name.as_str()),
            _ => None,
        })
}

impl Scope<'_> {
    fn resources(&self) -> impl Iterator<Item = (String, &Value)> {
        let resources = self.body["resources"].as_array().into_iter().flatten();
        resources
            .enumerate()
            .map(|(index, resource)| (format!("{}/resources/{index}", self.path), resource))
    }

    fn calls(&self) -> Vec<String> {
        let wrong = self.expressions.iter().flat_map(|(place, expression)| {
            let wrong = functions::wrong_in_template(expression).into_iter();
            wrong.map(move |error| format!("{place}: {error}"))
        });
        wrong.collect()
    }

    /// Parameters and variables that nobody declared.
    fn names_without_meaning(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, expression) in &self.expressions {
            for kind in ["parameters", "variables"] {
                for name in asked(expression, kind) {
                    if self.body[kind].get(name).is_none() {
                        found.push(format!("{place}: there is no `{name}` among the {kind}"));
                    }
                }
            }
        }
        found
    }

    fn unused(&self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in ["parameters", "variables"] {
            let used: BTreeSet<&str> = self
                .expressions
                .iter()
                .flat_map(|(_, expression)| asked(expression, kind))
                .collect();
            for (name, _) in entries(&self.body[kind]) {
                if !used.contains(name.as_str()) {
                    found.push(format!("`{name}` among the {kind} is not used"));
                }
            }
        }
        found
    }

    /// A secret is a secure parameter without a value, and goes to a vault or to a secure parameter.
    fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut secure = BTreeSet::new();
        for (name, declared) in entries(&self.body["parameters"]) {
            if is_secure(declared) {
                secure.insert(name.as_str());
                let default = declared.get("defaultValue");
                if default.is_some_and(|default| default != "") {
                    found.push(format!("the secret `{name}` has a value"));
                }
            } else if is_secret(name) {
                found.push(format!("`{name}` sounds secret and is no `securestring`"));
            }
        }
        let mut vault: Vec<String> = self
            .resources()
            .filter(|(_, resource)| resource["type"] == "Microsoft.KeyVault/vaults/secrets")
            .map(|(place, _)| format!("{place}/properties/value"))
            .collect();
        // App settings that are there already are read as a secret, and go back to where they were.
        let settings = self.resources().filter(|(_, resource)| {
            resource["type"] == "Microsoft.Web/sites/config"
                && secure
                    .iter()
                    .all(|name| self.body["parameters"][name]["type"] == "secureObject")
        });
        vault.extend(settings.map(|(place, _)| format!("{place}/properties")));
        for (place, expression) in &self.expressions {
            // Whether it is empty is no secret.
            let shown = expression.rewrite(&|part| match &part {
                Call(name, _) if name == "empty" => Text(String::new()),
                _ => part,
            });
            let leaks = asked(&shown, "parameters").find(|name| secure.contains(name));
            if let Some(name) = leaks
                && !vault.contains(place)
            {
                found.push(format!(
                    "{place}: the secret `{name}` belongs in the vault alone"
                ));
            }
        }
        found
    }

    /// What somebody types has an end, or is one of a list.
    fn lengths(&self) -> Vec<String> {
        let typed = entries(&self.body["parameters"])
            .filter(|(_, declared)| declared["type"] == "string" || is_secure(declared));
        let endless = typed.filter(|(_, declared)| {
            declared["maxLength"].is_null() && declared["allowedValues"].is_null()
        });
        endless
            .map(|(name, _)| format!("the parameter `{name}` has no `maxLength`"))
            .collect()
    }

    fn regions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, resource) in self.resources() {
            let Some(location) = resource.get("location") else {
                continue;
            };
            let global = resource["type"]
                .as_str()
                .is_some_and(|kind| GLOBAL.contains(&kind));
            let right = if global {
                "global"
            } else {
                "[parameters('location')]"
            };
            if location != right {
                found.push(format!(
                    "{place}: the location is {location}, not `{right}`"
                ));
            }
        }
        found
    }

    fn outputs(&self) -> Vec<String> {
        let mut found = Vec::new();
        let prefix = format!("{}/outputs/", self.path);
        for (place, expression) in &self.expressions {
            if !place.starts_with(&prefix) {
                continue;
            }
            for part in expression.parts() {
                let secret = match part {
                    Call(name, _) if name.starts_with("list") => Some(name),
                    Expression::Member(_, name) | Text(name) if is_secret(name) => Some(name),
                    _ => None,
                };
                found.extend(
                    secret.map(|name| format!("{place}: `{name}` is a secret in an output")),
                );
            }
        }
        found
    }

    /// Types of `resourceId` are types of resources.
    fn types(&self, declared: &BTreeSet<&str>) -> Vec<String> {
        let mut found = Vec::new();
        for (place, expression) in &self.expressions {
            for function in ["resourceId", "subscriptionResourceId"] {
                for arguments in expression.calls(function) {
                    let kind = arguments.iter().find_map(|argument| match argument {
                        Text(text) if text.contains('/') => Some(text.as_str()),
                        _ => None,
                    });
                    match kind {
                        None => found.push(format!("{place}: `{function}` without a type")),
                        Some(kind) if !declared.contains(kind) && !ELSEWHERE.contains(&kind) => {
                            found.push(format!("{place}: nothing here is a `{kind}`"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        found
    }

    fn versions(&self, known: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let mut found = Vec::new();
        for (place, resource) in self.resources() {
            let kind = resource["type"].as_str().unwrap_or_default();
            let version = resource["apiVersion"].as_str().unwrap_or_default();
            let right = known
                .get(kind)
                .is_some_and(|versions| versions.iter().any(|one| one == version));
            if !right {
                found.push(format!(
                    "{place}: the API version `{version}` of `{kind}` is not known"
                ));
            }
        }
        let all: BTreeSet<&str> = known.values().flatten().map(String::as_str).collect();
        for (place, expression) in &self.expressions {
            for arguments in expression.calls("reference") {
                match arguments.get(1) {
                    Some(Text(version)) if all.contains(version.as_str()) => {}
                    _ => found.push(format!("{place}: `reference` without a known API version")),
                }
            }
        }
        found
    }

    /// Clouds differ in their hosts; only schemas and the package stand at fixed addresses.
    fn addresses(&self) -> Vec<String> {
        let mut found = Vec::new();
        let allowed = ["/$schema", "/variables/package"];
        collect(
            self.body,
            &self.path,
            &mut |place, text| {
                let fixed = ["https://", "http://", "core.windows.net", "vault.azure.net"];
                if fixed.iter().any(|word| text.contains(word))
                    && !allowed.iter().any(|end| place.ends_with(end))
                {
                    found.push(format!("{place}: `{text}` is a fixed address"));
                }
            },
            &mut |_, _| {},
        );
        found
    }

    fn roles(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, resource) in self.resources() {
            if resource["type"] != "Microsoft.Authorization/roleAssignments" {
                continue;
            }
            let name = resource["name"].as_str().map(Expression::of);
            let stable = matches!(&name, Some(Ok(Some(Call(name, parts)))) if name == "guid" && parts.len() >= 3);
            if !stable {
                found.push(format!(
                    "{place}: the name is not a guid of scope, principal and role"
                ));
            }
            if resource["properties"]["principalType"] != "ServicePrincipal" {
                found.push(format!(
                    "{place}: `principalType` is missing: a new identity may not be found yet"
                ));
            }
        }
        found
    }

    /// What checkov is told to leave alone has a reason.
    fn skips(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, resource) in self.resources() {
            let skips = resource["metadata"]["checkov"]
                .as_array()
                .into_iter()
                .flatten();
            for skip in skips.filter_map(Value::as_str) {
                let reason = skip.split_once(": ").map_or("", |(_, reason)| reason);
                if reason.len() < 20 {
                    found.push(format!("{place}: `{skip}` is skipped without a reason"));
                }
            }
        }
        found
    }
}
