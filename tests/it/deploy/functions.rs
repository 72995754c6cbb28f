//! The functions that templates and portal forms may call, with the numbers of their arguments.

use super::expression::Expression;

/// `(name, least, most)`: what Azure Resource Manager knows and this template may need.
const OF_TEMPLATES: &[(&str, usize, usize)] = &[
    ("and", 2, 99),
    ("cidrSubnet", 3, 3),
    ("coalesce", 1, 99),
    ("concat", 1, 99),
    ("contains", 2, 2),
    ("copyIndex", 0, 2),
    ("createArray", 0, 99),
    ("createObject", 0, 99),
    ("empty", 1, 1),
    ("environment", 0, 0),
    ("equals", 2, 2),
    ("false", 0, 0),
    ("filter", 2, 2),
    ("first", 1, 1),
    ("guid", 1, 99),
    ("if", 3, 3),
    ("join", 2, 2),
    ("lambda", 2, 3),
    ("lambdaVariables", 1, 1),
    ("last", 1, 1),
    ("length", 1, 1),
    ("list", 2, 3),
    ("map", 2, 2),
    ("not", 1, 1),
    ("null", 0, 0),
    ("or", 2, 99),
    ("parameters", 1, 1),
    ("reference", 1, 3),
    ("replace", 3, 3),
    ("resourceGroup", 0, 0),
    ("resourceId", 2, 99),
    ("split", 2, 2),
    ("string", 1, 1),
    ("subscription", 0, 0),
    ("subscriptionResourceId", 2, 99),
    ("toLower", 1, 1),
    ("toObject", 2, 3),
    ("tryGet", 2, 99),
    ("union", 2, 99),
    ("uniqueString", 1, 99),
    ("variables", 1, 1),
];

/// The same of `createUiDefinition.json`.
const OF_FORMS: &[(&str, usize, usize)] = &[
    ("and", 2, 99),
    ("basics", 1, 1),
    ("coalesce", 1, 99),
    ("concat", 1, 99),
    ("contains", 2, 2),
    ("empty", 1, 1),
    ("equals", 2, 2),
    ("if", 3, 3),
    ("int", 1, 1),
    ("location", 0, 0),
    ("not", 1, 1),
    ("or", 2, 99),
    ("parse", 1, 1),
    ("steps", 1, 1),
];

/// What is wrong with the calls in an expression of a template.
pub(super) fn wrong_in_template(expression: &Expression) -> Vec<String> {
    wrong(expression, OF_TEMPLATES)
}

/// What is wrong with the calls in an expression of a portal form.
pub(super) fn wrong_in_form(expression: &Expression) -> Vec<String> {
    wrong(expression, OF_FORMS)
}

fn wrong(expression: &Expression, known: &[(&str, usize, usize)]) -> Vec<String> {
    let mut found = Vec::new();
    for part in expression.parts() {
        let Expression::Call(name, arguments) = part else {
            continue;
        };
        let count = arguments.len();
        match known
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
        {
            None => found.push(format!("the function `{name}` is not known")),
            Some((_, least, most)) if count < *least || count > *most => {
                found.push(format!(
                    "`{name}` takes {least} to {most} arguments, not {count}"
                ));
            }
            Some(_) => {}
        }
    }
    found
}
