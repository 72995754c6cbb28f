//! What Azure makes of a template: conditions, copies, nested deployments and expressions, worked
//! through in the order of `dependsOn`. A resource sees only what it depends on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    expression::Expression::{self, Call, Item, Member, Number, Text},
    platform::{self, GROUP, LOCATION, SUBSCRIPTION, TENANT},
    standard,
};

/// A resource as Azure would be asked to make it.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) body: Value,
}

/// What a deployment made, and what it says in the end.
#[derive(Debug)]
pub(super) struct Deployed {
    pub(super) resources: Vec<Resource>,
    pub(super) outputs: Map<String, Value>,
}

impl Deployed {
    pub(super) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources
            .iter()
            .filter(move |resource| resource.kind == kind)
    }

    pub(super) fn one(&self, kind: &str) -> &Resource {
        let found: Vec<&Resource> = self
            .resources
            .iter()
            .filter(|one| one.kind == kind)
            .collect();
        assert_eq!(found.len(), 1, "{kind}: {found:#?}");
        found[0]
    }
}

/// Where resources go by default.
#[derive(Clone)]
struct Place {
    subscription: String,
    group: String,
}

/// A template with its parameters.
struct Template<'a> {
    body: &'a Value,
    parameters: BTreeMap<String, Value>,
    place: Place,
    /// What was there before.
    there: &'a [Resource],
}

/// What an expression may see.
#[derive(Clone, Default)]
struct View<'a> {
    copy: Option<usize>,
    variables: Vec<(String, Value)>,
    /// What it depends on, and what was there before and is not deployed beside it.
    resources: Vec<&'a Resource>,
}

type Result<T> = std::result::Result<T, String>;

/// Deploys `template` into an empty resource group.
pub(super) fn deploy(template: &Value, parameters: &Value) -> Result<Deployed> {
    deploy_over(&[], template, parameters)
}

/// Deploys `template` where `there` is what was deployed before.
pub(super) fn deploy_over(
    there: &[Resource],
    template: &Value,
    parameters: &Value,
) -> Result<Deployed> {
    let place = Place {
        subscription: SUBSCRIPTION.to_owned(),
        group: GROUP.to_owned(),
    };
    let given = parameters.as_object().cloned().unwrap_or_default();
    deploy_in(there, template, given, place)
}

fn deploy_in(
    there: &[Resource],
    body: &Value,
    given: Map<String, Value>,
    place: Place,
) -> Result<Deployed> {
    let mut template = Template {
        body,
        parameters: given.into_iter().collect(),
        place,
        there,
    };
    for name in template.parameters.keys() {
        if body["parameters"].get(name).is_none() {
            return Err(format!("the parameter `{name}` is given and not declared"));
        }
    }
    for (name, declared) in entries(&body["parameters"]) {
        if !template.parameters.contains_key(name) {
            let default = declared.get("defaultValue");
            let default = default.ok_or_else(|| format!("the parameter `{name}` is not given"))?;
            let value = template.value(default, &View::default())?;
            template.parameters.insert(name.clone(), value);
        }
        let value = &template.parameters[name];
        if let Some(allowed) = declared["allowedValues"].as_array()
            && !allowed.contains(value)
        {
            return Err(format!("the parameter `{name}` may not be {value}"));
        }
        let length = value.as_str().map(|text| text.chars().count() as u64);
        if length > declared["maxLength"].as_u64().or(length) {
            return Err(format!("the parameter `{name}` is too long"));
        }
    }
    template.deploy()
}

/// One copy of a resource.
struct Instance<'a> {
    source: &'a Value,
    copy: Option<usize>,
    id: String,
    kind: String,
    name: String,
    depends_on: Vec<String>,
}

impl Template<'_> {
    fn deploy(&self) -> Result<Deployed> {
        let mut waiting = self.instances()?;
        // The names of what is deployed, each with those of what has to be there before.
        let names: BTreeMap<String, Vec<String>> = waiting
            .iter()
            .map(|instance| (instance.id.clone(), instance.depends_on.clone()))
            .collect();
        if names.len() < waiting.len() {
            return Err("two resources have the same name".to_owned());
        }
        // The ids that each finished resource waited for, and those that these waited for.
        let mut finished: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut made: Vec<Resource> = Vec::new();
        while !waiting.is_empty() {
            let ready = waiting
                .iter()
                .position(|one| one.depends_on.iter().all(|id| finished.contains_key(id)));
            let Some(ready) = ready else {
                let ids: Vec<_> = waiting
                    .iter()
                    .map(|one| (&one.id, &one.depends_on))
                    .collect();
                return Err(format!(
                    "dependsOn names what is not there, or goes round: {ids:#?}"
                ));
            };
            let instance = waiting.remove(ready);
            let mut behind: BTreeSet<String> = instance.depends_on.iter().cloned().collect();
            behind.extend(
                instance
                    .depends_on
                    .iter()
                    .flat_map(|id| finished[id].iter().cloned()),
            );
            let new = self
                .make(&instance, &behind, &names, &made)
                .map_err(|error| format!("{}: {error}", instance.id))?;
            made.extend(new);
            finished.insert(instance.id, behind);
        }
        // Azure reads a resource that the template deploys once it is deployed, never before.
        let before = self.there.iter().filter(|one| !names.contains_key(&one.id));
        let view = View {
            resources: made.iter().chain(before).collect(),
            ..View::default()
        };
        let mut outputs = Map::new();
        for (name, output) in entries(&self.body["outputs"]) {
            outputs.insert(
                name.clone(),
                json!({ "value": self.value(&output["value"], &view)? }),
            );
        }
        Ok(Deployed {
            outputs,
            resources: made,
        })
    }

    fn instances(&self) -> Result<Vec<Instance<'_>>> {
        let mut instances = Vec::new();
        for source in self.body["resources"].as_array().into_iter().flatten() {
            let copies = match source["copy"].get("count") {
                None => vec![None],
                Some(count) => {
                    let count = self.value(count, &View::default())?;
                    (0..usize::try_from(count.as_u64().unwrap()).unwrap())
                        .map(Some)
                        .collect()
                }
            };
            for copy in copies {
                let view = View {
                    copy,
                    ..View::default()
                };
                let text = |value| {
                    Ok::<_, String>(
                        self.value(value, &view)?
                            .as_str()
                            .unwrap_or_default()
                            .to_owned(),
                    )
                };
                let kind = text(&source["type"])?;
                let name = text(&source["name"])?;
                let mut place = self.place.clone();
                for (member, part) in [
                    ("subscriptionId", &mut place.subscription),
                    ("resourceGroup", &mut place.group),
                ] {
                    if source.get(member).is_some() {
                        *part = text(&source[member])?;
                    }
                }
                let names: Vec<&str> = name.split('/').collect();
                let mut id = resource_id(&place, &kind, &names)?;
                if let Some(scope) = source.get("scope") {
                    id = format!("{}/providers/{kind}/{name}", text(scope)?);
                }
                let depends_on = source["dependsOn"].as_array().into_iter().flatten();
                let depends_on = depends_on.map(text).collect::<Result<_>>()?;
                instances.push(Instance {
                    source,
                    copy,
                    id,
                    kind,
                    name,
                    depends_on,
                });
            }
        }
        Ok(instances)
    }

    /// What comes of one resource: nothing, itself, or itself and what is nested in it.
    fn make(
        &self,
        instance: &Instance<'_>,
        behind: &BTreeSet<String>,
        names: &BTreeMap<String, Vec<String>>,
        made: &[Resource],
    ) -> Result<Vec<Resource>> {
        // A nested resource is seen through the outputs of its deployment alone.
        let resources = made.iter().filter(|one| behind.contains(&one.id));
        let before = self.there.iter().filter(|one| !names.contains_key(&one.id));
        let resources = resources.chain(before).collect();
        let view = View {
            copy: instance.copy,
            resources,
            ..View::default()
        };
        if let Some(condition) = instance.source.get("condition")
            && self.value(condition, &view)? == Value::Bool(false)
        {
            return Ok(vec![]);
        }
        let mut source = instance.source.clone();
        let nested = source["properties"]
            .as_object_mut()
            .and_then(|properties| properties.remove("template"));
        let mut body = self.value(&source, &view)?;
        let mut texts = Vec::new();
        strings(&body, &mut texts);
        for text in texts {
            let inside = instance.id.starts_with(text) || text.starts_with(&instance.id);
            let Some(follows) = names.get(text) else {
                continue;
            };
            // What waits for it, it may name: as it was before.
            if !behind.contains(text) && !inside && !follows.contains(&instance.id) {
                return Err(format!("names `{text}` and does not depend on it"));
            }
        }
        let mut new = Vec::new();
        if let Some(nested) = nested {
            let part =
                |name: &str, default: &str| body[name].as_str().unwrap_or(default).to_owned();
            let place = Place {
                subscription: part("subscriptionId", &self.place.subscription),
                group: part("resourceGroup", &self.place.group),
            };
            let given = entries(&body["properties"]["parameters"]);
            let given = given.map(|(name, value)| (name.clone(), value["value"].clone()));
            let deployed = deploy_in(self.there, &nested, given.collect(), place)?;
            body["properties"]["outputs"] = Value::Object(deployed.outputs);
            new = deployed.resources;
        }
        let (id, kind, name) = (
            instance.id.clone(),
            instance.kind.clone(),
            instance.name.clone(),
        );
        new.push(Resource {
            id,
            kind,
            name,
            body,
        });
        Ok(new)
    }

    /// A value of the template, with everything in it worked out.
    fn value(&self, value: &Value, view: &View<'_>) -> Result<Value> {
        Ok(match value {
            Value::String(text) => match Expression::of(text)? {
                Some(expression) => self.evaluate(&expression, view)?,
                None => Value::String(
                    text.strip_prefix('[')
                        .filter(|rest| rest.starts_with('['))
                        .unwrap_or(text)
                        .to_owned(),
                ),
            },
            Value::Array(items) => items
                .iter()
                .map(|item| self.value(item, view))
                .collect::<Result<_>>()?,
            Value::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    let name = self.value(&Value::String(name.clone()), view)?;
                    object.insert(
                        name.as_str().unwrap_or_default().to_owned(),
                        self.value(member, view)?,
                    );
                }
                Value::Object(object)
            }
            other => other.clone(),
        })
    }

    fn evaluate(&self, expression: &Expression, view: &View<'_>) -> Result<Value> {
        match expression {
            Text(text) => Ok(json!(text)),
            Number(number) => Ok(json!(number)),
            Member(of, name) => member(&self.evaluate(of, view)?, &json!(name)),
            Item(of, index) => member(&self.evaluate(of, view)?, &self.evaluate(index, view)?),
            Call(name, arguments) => self.call(name, arguments, view),
        }
    }

    fn call(&self, name: &str, arguments: &[Expression], view: &View<'_>) -> Result<Value> {
        match (name, arguments) {
            ("if", [condition, yes, no]) => {
                let yes_or_no = self.evaluate(condition, view)? == Value::Bool(true);
                return self.evaluate(if yes_or_no { yes } else { no }, view);
            }
            ("map" | "filter", [items, lambda]) => return self.each(name, items, lambda, view),
            ("toObject", [items, key, value]) => {
                let mut object = Map::new();
                for item in array(&self.evaluate(items, view)?)? {
                    let key = self.apply(key, &item, view)?;
                    object.insert(text(&key)?, self.apply(value, &item, view)?);
                }
                return Ok(Value::Object(object));
            }
            _ => {}
        }
        let values = arguments
            .iter()
            .map(|argument| self.evaluate(argument, view));
        let values: Vec<Value> = values.collect::<Result<_>>()?;
        let texts = || values.iter().map(text).collect::<Result<Vec<String>>>();
        match name {
            "parameters" => {
                let name = text(&values[0])?;
                let value = self.parameters.get(&name).cloned();
                value.ok_or_else(|| format!("there is no parameter `{name}`"))
            }
            "variables" => {
                let name = text(&values[0])?;
                let value = self.body["variables"].get(&name);
                self.value(
                    value.ok_or_else(|| format!("there is no variable `{name}`"))?,
                    view,
                )
            }
            "lambdaVariables" => {
                let name = text(&values[0])?;
                let found = view
                    .variables
                    .iter()
                    .rev()
                    .find(|(known, _)| *known == name);
                found
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| format!("there is no `{name}`"))
            }
            "copyIndex" => view
                .copy
                .map(|index| json!(index))
                .ok_or_else(|| "copyIndex outside a copy".to_owned()),
            "resourceGroup" => Ok(json!({ "id": group_id(&self.place), "location": LOCATION })),
            "subscription" => {
                Ok(json!({ "subscriptionId": self.place.subscription, "tenantId": TENANT }))
            }
            "resourceId" => {
                let texts = texts()?;
                let kind = texts
                    .iter()
                    .position(|text| text.contains('/'))
                    .ok_or("no type")?;
                let mut place = self.place.clone();
                match &texts[..kind] {
                    [] => {}
                    [group] => place.group.clone_from(group),
                    [subscription, group] => {
                        place = Place {
                            subscription: subscription.clone(),
                            group: group.clone(),
                        }
                    }
                    _ => return Err("resourceId has too many parts before the type".to_owned()),
                }
                let names: Vec<&str> = texts[kind + 1..].iter().map(String::as_str).collect();
                resource_id(&place, &texts[kind], &names).map(Value::String)
            }
            "subscriptionResourceId" => {
                let texts = texts()?;
                Ok(json!(format!(
                    "/subscriptions/{}/providers/{}",
                    self.place.subscription,
                    texts.join("/")
                )))
            }
            "reference" => platform::reference(&texts()?, &view.resources),
            "list" => platform::list(&texts()?[0], &view.resources),
            _ => standard::call(name, &values),
        }
    }

    fn each(
        &self,
        name: &str,
        items: &Expression,
        lambda: &Expression,
        view: &View<'_>,
    ) -> Result<Value> {
        let mut results = Vec::new();
        for item in array(&self.evaluate(items, view)?)? {
            let result = self.apply(lambda, &item, view)?;
            if name == "map" {
                results.push(result);
            } else if result == Value::Bool(true) {
                results.push(item);
            }
        }
        Ok(Value::Array(results))
    }

    fn apply(&self, lambda: &Expression, item: &Value, view: &View<'_>) -> Result<Value> {
        let Call(name, parts) = lambda else {
            return Err("no lambda".to_owned());
        };
        let ("lambda", [Text(variable), body]) = (name.as_str(), &parts[..]) else {
            return Err(format!("`{name}` where a lambda of one variable belongs"));
        };
        let mut view = view.clone();
        view.variables.push((variable.clone(), item.clone()));
        self.evaluate(body, &view)
    }
}

fn group_id(place: &Place) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}",
        place.subscription, place.group
    )
}

fn resource_id(place: &Place, kind: &str, names: &[&str]) -> Result<String> {
    let mut parts = kind.split('/');
    let provider = parts.next().unwrap_or_default();
    let kinds: Vec<&str> = parts.collect();
    if kinds.len() != names.len() {
        return Err(format!(
            "`{kind}` has {} names, not {}: {names:?}",
            kinds.len(),
            names.len()
        ));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Err(format!("an empty name of `{kind}`"));
    }
    let steps = kinds
        .iter()
        .zip(names)
        .flat_map(|(kind, name)| [*kind, *name]);
    let path = steps.collect::<Vec<_>>().join("/");
    Ok(format!("{}/providers/{provider}/{path}", group_id(place)))
}

fn member(of: &Value, name: &Value) -> Result<Value> {
    let found = match (of, name) {
        (Value::Object(members), Value::String(name)) => members.get(name),
        (Value::Array(items), Value::Number(index)) => index
            .as_u64()
            .and_then(|index| items.get(usize::try_from(index).ok()?)),
        _ => None,
    };
    found
        .cloned()
        .ok_or_else(|| format!("{name} is not in {of}"))
}

pub(super) fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{value} where a text belongs"))
}

pub(super) fn array(value: &Value) -> Result<Vec<Value>> {
    value
        .as_array()
        .cloned()
        .ok_or_else(|| format!("{value} where an array belongs"))
}

/// Every text in a value.
pub(super) fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            found.push(name);
            strings(member, found);
        }),
        _ => {}
    }
}

/// The members of an object, none when it is absent.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
