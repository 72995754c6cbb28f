//! Rules that the portal form has to keep, beside the template that it fills in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    azure::{entries, strings},
    expression::Expression::{self, Call, Member, Text},
    functions,
};

/// Elements that only tell something.
const SILENT: &[&str] = &["Microsoft.Common.InfoBox", "Microsoft.Common.TextBlock"];

/// Everything that is wrong with the form.
pub(super) fn findings(form: &Value, template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let elements = elements(form);
    for (name, element) in &elements {
        found.extend(
            element_findings(element)
                .into_iter()
                .map(|finding| format!("{name}: {finding}")),
        );
    }
    found.extend(expressions(form, &elements));
    found.extend(parity(form, template, &elements));
    found
}

/// Every element by what stands for it in an expression: `steps('eset').login`, `basics('name')`.
fn elements(form: &Value) -> BTreeMap<String, &Value> {
    let parameters = &form["parameters"];
    let named = |element: &Value| element["name"].as_str().unwrap_or_default().to_owned();
    let basics = parameters["basics"].as_array().into_iter().flatten();
    let mut elements: BTreeMap<String, &Value> = basics
        .map(|element| (format!("basics('{}')", named(element)), element))
        .collect();
    for step in parameters["steps"].as_array().into_iter().flatten() {
        for element in step["elements"].as_array().into_iter().flatten() {
            elements.insert(
                format!("steps('{}').{}", named(step), named(element)),
                element,
            );
        }
    }
    elements
}

fn kind(element: &Value) -> &str {
    element["type"].as_str().unwrap_or_default()
}

fn said(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn element_findings(element: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if SILENT.contains(&kind(element)) {
        if !said(&element["options"]["text"]) {
            found.push("says nothing".to_owned());
        }
        return found;
    }
    let label = &element["label"];
    let labelled = said(label) || said(&label["password"]) && said(&label["confirmPassword"]);
    if !labelled {
        found.push("has no label".to_owned());
    }
    if !said(&element["toolTip"]) {
        found.push("has no tooltip".to_owned());
    }
    found.extend(validation_findings(element));
    found
}

/// What is typed is checked as it is typed, and says what is wrong with it.
fn validation_findings(element: &Value) -> Vec<String> {
    let constraints = &element["constraints"];
    let mut found = Vec::new();
    match kind(element) {
        "Microsoft.Common.TextBox" => {
            let validations = constraints["validations"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if !validations.iter().any(|one| said(&one["regex"])) {
                found.push("is not validated".to_owned());
            }
            if validations.iter().any(|one| !said(&one["message"])) {
                found.push("does not say what is wrong".to_owned());
            }
            if constraints["required"].is_null() {
                found.push("does not say whether it is required".to_owned());
            }
        }
        "Microsoft.Common.PasswordBox" => {
            if !said(&constraints["regex"]) {
                found.push("is not validated".to_owned());
            }
            if !said(&constraints["validationMessage"]) {
                found.push("does not say what is wrong".to_owned());
            }
        }
        "Microsoft.Common.DropDown" => {
            let values = constraints["allowedValues"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if values.is_empty() {
                found.push("has nothing to choose from".to_owned());
            }
            let default = element.get("defaultValue");
            if default.is_some_and(|default| !values.iter().any(|one| one["label"] == *default)) {
                found.push("has a default that is not in its list".to_owned());
            }
        }
        "Microsoft.Common.EditableGrid" => {
            for column in constraints["columns"].as_array().into_iter().flatten() {
                if !said(&column["header"]) {
                    found.push("has a column without a header".to_owned());
                }
                found.extend(validation_findings(&column["element"]));
            }
        }
        "Microsoft.Common.CheckBox" | "Microsoft.Solutions.ResourceSelector" => {}
        other => found.push(format!("is a `{other}`, which is not known")),
    }
    found
}

fn expressions(form: &Value, elements: &BTreeMap<String, &Value>) -> Vec<String> {
    let mut texts = Vec::new();
    strings(form, &mut texts);
    let mut found = Vec::new();
    for text in texts {
        match Expression::of(text) {
            Ok(None) => {}
            Err(error) => found.push(error),
            Ok(Some(expression)) => {
                found.extend(
                    functions::wrong_in_form(&expression)
                        .into_iter()
                        .map(|error| format!("`{text}`: {error}")),
                );
                for name in asked(&expression) {
                    if !elements.contains_key(&name) {
                        found.push(format!("`{text}`: there is no {name}"));
                    }
                }
            }
        }
    }
    found
}

/// The elements that an expression reads.
fn asked(expression: &Expression) -> Vec<String> {
    let mut asked = Vec::new();
    for part in expression.parts() {
        match part {
            Member(of, name) => {
                if let Call(function, arguments) = &**of
                    && let ("steps", [Text(step)]) = (function.as_str(), &arguments[..])
                {
                    asked.push(format!("steps('{step}').{name}"));
                }
            }
            Call(function, arguments) => {
                if let ("basics", [Text(name)]) = (function.as_str(), &arguments[..]) {
                    asked.push(format!("basics('{name}')"));
                }
            }
            _ => {}
        }
    }
    asked
}

/// Outputs are the template's parameters, elements end in outputs, and both mean the same values.
fn parity(form: &Value, template: &Value, elements: &BTreeMap<String, &Value>) -> Vec<String> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (name, output) in entries(&form["parameters"]["outputs"]) {
        let Some(declared) = template["parameters"].get(name) else {
            found.push(format!(
                "the output `{name}` is no parameter of the template"
            ));
            continue;
        };
        let Ok(Some(expression)) = Expression::of(output.as_str().unwrap_or_default()) else {
            found.push(format!("the output `{name}` is no expression"));
            continue;
        };
        let secure = declared["type"] == "securestring";
        for asked in asked(&expression) {
            if let Some(element) = elements.get(&asked) {
                if secure != (kind(element) == "Microsoft.Common.PasswordBox") {
                    found.push(format!("the output `{name}` is secret in one place only"));
                }
                found.extend(choices(name, declared, element));
            }
            used.insert(asked);
        }
    }
    for (name, _) in entries(&template["parameters"]) {
        if form["parameters"]["outputs"][name].is_null() {
            found.push(format!(
                "the template's parameter `{name}` is not asked for"
            ));
        }
    }
    for (name, element) in elements {
        if !used.contains(name) && !SILENT.contains(&kind(element)) {
            found.push(format!("{name} is asked for and not used"));
        }
    }
    found
}

/// A list offers what the template takes.
fn choices(name: &str, declared: &Value, element: &Value) -> Vec<String> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let list = |value: &Value| {
        value
            .as_array()
            .map(|values| values.iter().map(text).collect::<Vec<_>>())
    };
    let Some(allowed) = list(&declared["allowedValues"]) else {
        return vec![];
    };
    let offered: Vec<Value> = element["constraints"]["allowedValues"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|choice| choice["value"].clone())
        .collect();
    if list(&Value::Array(offered)) == Some(allowed) {
        return vec![];
    }
    vec![format!(
        "the output `{name}` is not what the template allows"
    )]
}
