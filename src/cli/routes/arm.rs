//! What has to be there for `ROUTES`, as an Azure Resource Manager template: tables, and data
//! collection rules that lead to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::mapping::columns::Column;

/// The most data flows of a rule. The service takes ten; two are left for whoever adds their own.
pub(super) const FLOWS: usize = 8;

/// `Monitoring Metrics Publisher`.
const PUBLISHER: &str = "3913510d-42f4-4e42-8a64-420c390055eb";

const RULE_API: &str = "2023-03-11";
/// Older ones know no data lake (docs/contracts/sentinel.md, Tables and queries).
const TABLE_API: &str = "2025-07-01";
const PREFIX: &str = "sentinel-connector-routes";

/// Streams, each with the table that it is sent to.
pub(super) type Targets<'t> = [(&'t str, &'t str)];

/// How a table keeps its rows, and what may read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum TablePlan {
    /// Rules and alerts see it.
    Analytics,
    /// Cheaper, for searches of thirty days.
    Basic,
    /// The data lake: cheapest, for searches of years.
    Auxiliary,
}

impl TablePlan {
    /// The plan's name in the service.
    fn name(self) -> &'static str {
        match self {
            Self::Analytics => "Analytics",
            Self::Basic => "Basic",
            Self::Auxiliary => "Auxiliary",
        }
    }
}

/// The tables and their columns in rules of at most [`FLOWS`] tables.
fn rules<'t>(
    tables: &'t BTreeMap<String, &'static [Column]>,
) -> Vec<Vec<(&'t String, &'static [Column])>> {
    let all: Vec<_> = tables
        .iter()
        .map(|(name, columns)| (name, *columns))
        .collect();
    all.chunks(FLOWS).map(<[_]>::to_vec).collect()
}

/// The template: `tables` are made, those of `planned` with that plan; `targets` become the output `ROUTES`.
pub(super) fn template(
    tables: &BTreeMap<String, &'static [Column]>,
    targets: &Targets<'_>,
    plan: TablePlan,
    planned: &[&str],
) -> Value {
    let rules = rules(tables);
    let plan_of = |name: &str| {
        if planned.contains(&name) {
            plan
        } else {
            TablePlan::Analytics
        }
    };
    let mut resources: Vec<Value> = tables
        .iter()
        .map(|(name, columns)| table(name, columns, plan_of(name)))
        .collect();
    for (at, flows) in rules.iter().enumerate() {
        resources.push(rule(at, flows));
        resources.push(role(at));
    }
    let mut template = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "workspaceName": workspace_name(),
            "location": parameter(
                "Its region: a rule has to be in the same one.",
                Some("[resourceGroup().location]"),
            ),
            "rulePrefix": parameter("The beginning of the rules' names.", Some(PREFIX)),
            "principalId": parameter(
                "Object id of the identity that pushes, for the role on the rules; empty: none is given.",
                Some(""),
            ),
        },
        "variables": {
            "workspaceId": "[resourceId('Microsoft.OperationalInsights/workspaces', parameters('workspaceName'))]",
            "publisherId": format!(
                "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '{PUBLISHER}')]"
            ),
        },
        "resources": resources,
        "outputs": { "ROUTES": { "type": "string", "value": output(&rules, targets) } },
    });
    if plan == TablePlan::Auxiliary {
        template["parameters"]["lakeRetentionInDays"] = json!({
            "type": "int",
            "defaultValue": 365,
            "minValue": 30,
            "maxValue": 4383,
            "metadata": { "description": "How long the tables of the data lake keep their rows." },
        });
    }
    template
}

/// `ROUTES` with words in place of what is known only when the template is deployed.
pub(super) fn setting(
    tables: &BTreeMap<String, &'static [Column]>,
    targets: &Targets<'_>,
) -> String {
    let rules = rules(tables);
    let routes = targets
        .iter()
        .map(|(stream, table)| match place(&rules, table) {
            None => format!("{stream}=Custom-{table}"),
            Some(at) => {
                let rule = format!("{PREFIX}-{}", at + 1);
                format!("{stream}=<endpoint of {rule}>/<immutable id of {rule}>/Custom-{table}")
            }
        });
    routes.collect::<Vec<_>>().join(",")
}

fn parameter(what: &str, default: Option<&str>) -> Value {
    let mut parameter = json!({ "type": "string", "metadata": { "description": what } });
    if let Some(default) = default {
        parameter["defaultValue"] = default.into();
    }
    parameter
}

/// No resource id is as short, and whoever gives one is told which parameter it is.
fn workspace_name() -> Value {
    let what =
        "The Log Analytics workspace, in this resource group: its name, not its resource id.";
    let mut name = parameter(what, None);
    name["minLength"] = 4.into();
    name["maxLength"] = 63.into();
    name
}

fn listed(columns: &[Column]) -> Vec<Value> {
    columns
        .iter()
        .map(|column| json!({ "name": column.name, "type": column.kind.name() }))
        .collect()
}

fn table(name: &str, columns: &[Column], plan: TablePlan) -> Value {
    let mut table = json!({
        "type": "Microsoft.OperationalInsights/workspaces/tables",
        "apiVersion": TABLE_API,
        "name": format!("[concat(parameters('workspaceName'), '/{name}')]"),
        "properties": {
            "plan": plan.name(),
            "schema": { "name": name, "columns": listed(columns) },
        },
    });
    if plan == TablePlan::Auxiliary {
        table["properties"]["totalRetentionInDays"] = "[parameters('lakeRetentionInDays')]".into();
    }
    table
}

/// The name of a rule, as an expression without brackets.
fn rule_name(at: usize) -> String {
    format!("concat(parameters('rulePrefix'), '-{}')", at + 1)
}

fn rule_id(at: usize) -> String {
    format!(
        "resourceId('Microsoft.Insights/dataCollectionRules', {})",
        rule_name(at)
    )
}

fn rule(at: usize, tables: &[(&String, &'static [Column])]) -> Value {
    let declarations: BTreeMap<String, Value> = tables
        .iter()
        .map(|(name, columns)| {
            (
                format!("Custom-{name}"),
                json!({ "columns": listed(columns) }),
            )
        })
        .collect();
    let flows: Vec<Value> = tables
        .iter()
        .map(|(name, _)| {
            let stream = format!("Custom-{name}");
            json!({
                "streams": [stream],
                "destinations": ["workspace"],
                "transformKql": "source",
                "outputStream": stream,
            })
        })
        .collect();
    let needs: Vec<String> = tables
        .iter()
        .map(|(name, _)| {
            format!(
                "[resourceId('Microsoft.OperationalInsights/workspaces/tables', \
                 parameters('workspaceName'), '{name}')]"
            )
        })
        .collect();
    json!({
        "type": "Microsoft.Insights/dataCollectionRules",
        "apiVersion": RULE_API,
        "name": format!("[{}]", rule_name(at)),
        "location": "[parameters('location')]",
        // With an endpoint of its own.
        "kind": "Direct",
        "dependsOn": needs,
        "properties": {
            "streamDeclarations": declarations,
            "destinations": {
                "logAnalytics": [{
                    "name": "workspace",
                    "workspaceResourceId": "[variables('workspaceId')]",
                }],
            },
            "dataFlows": flows,
        },
    })
}

fn role(at: usize) -> Value {
    let rule = rule_id(at);
    json!({
        "type": "Microsoft.Authorization/roleAssignments",
        "apiVersion": "2022-04-01",
        "condition": "[not(empty(parameters('principalId')))]",
        "name": format!("[guid({rule}, parameters('principalId'), variables('publisherId'))]"),
        "scope": format!("[{rule}]"),
        "dependsOn": [format!("[{rule}]")],
        "properties": {
            "roleDefinitionId": "[variables('publisherId')]",
            "principalId": "[parameters('principalId')]",
            "principalType": "ServicePrincipal",
        },
    })
}

/// The rule that leads to a table.
fn place(rules: &[Vec<(&String, &'static [Column])>], table: &str) -> Option<usize> {
    rules
        .iter()
        .position(|flows| flows.iter().any(|(name, _)| *name == table))
}

/// The value of `ROUTES` as an expression.
fn output(rules: &[Vec<(&String, &'static [Column])>], targets: &Targets<'_>) -> String {
    let route = |(stream, table): &(&str, &str)| match place(rules, table) {
        None => format!("'{stream}=Custom-{table}'"),
        Some(at) => {
            let of = format!("reference({}, '{RULE_API}')", rule_id(at));
            format!(
                "concat('{stream}=', {of}.endpoints.logsIngestion, '/', {of}.immutableId, \
                 '/Custom-{table}')"
            )
        }
    };
    let routes: Vec<String> = targets.iter().map(route).collect();
    format!("[join(createArray({}), ',')]", routes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mapping::{columns::DETECTIONS, schema::schemas};

    type RouteColumns = BTreeMap<String, &'static [Column]>;

    fn all() -> (RouteColumns, Vec<(String, String)>) {
        let tables: RouteColumns = schemas()
            .iter()
            .map(|schema| {
                (
                    format!("{}_CL", schema.name.replace('-', "_")),
                    schema.columns,
                )
            })
            .collect();
        let targets = tables
            .keys()
            .map(|name| (format!("stream.{name}"), name.clone()));
        let targets = targets.collect();
        (tables, targets)
    }

    fn of_type<'v>(template: &'v Value, kind: &str) -> Vec<&'v Value> {
        let all = template["resources"].as_array().unwrap().iter();
        all.filter(|one| one["type"] == kind).collect()
    }

    #[test]
    fn a_workspace_is_named_and_a_resource_id_is_too_long_for_a_name() {
        let name = workspace_name();
        let id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/x";
        assert!(name["maxLength"].as_u64().unwrap() < id.len() as u64);
        let text = include_str!("../../../sentinel/azuredeploy.json");
        let template: Value = serde_json::from_str(text).unwrap();
        let other = &template["parameters"]["workspaceName"];
        for limit in ["minLength", "maxLength"] {
            assert_eq!(other[limit], name[limit], "{limit}");
        }
    }

    #[test]
    fn every_table_is_made_and_has_one_flow_of_the_same_columns() {
        let (tables, targets) = all();
        let targets: Vec<(&str, &str)> = targets.iter().map(|(a, b)| (&**a, &**b)).collect();
        let template = template(&tables, &targets, TablePlan::Analytics, &[]);
        let made = of_type(&template, "Microsoft.OperationalInsights/workspaces/tables");
        let rules = of_type(&template, "Microsoft.Insights/dataCollectionRules");
        assert_eq!((made.len(), rules.len()), (29, 4));
        let mut flows = 0;
        for rule in rules {
            assert_eq!(rule["kind"], "Direct");
            let own = rule["properties"]["dataFlows"].as_array().unwrap();
            assert!((1..=FLOWS).contains(&own.len()));
            flows += own.len();
            for flow in own {
                let stream = flow["outputStream"].as_str().unwrap();
                assert_eq!(flow["streams"], json!([stream]));
                assert_eq!(flow["transformKql"], "source");
                let name = stream.strip_prefix("Custom-").unwrap();
                let declared = &rule["properties"]["streamDeclarations"][stream]["columns"];
                let table = made
                    .iter()
                    .find(|one| one["properties"]["schema"]["name"] == name)
                    .unwrap();
                assert_eq!(declared, &table["properties"]["schema"]["columns"]);
                let columns: Vec<(&str, &str)> = tables[name]
                    .iter()
                    .map(|column| (column.name, column.kind.name()))
                    .collect();
                let listed: Vec<(&str, &str)> = declared
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| (one["name"].as_str().unwrap(), one["type"].as_str().unwrap()))
                    .collect();
                assert_eq!(listed, columns);
                assert_eq!(listed[0], ("TimeGenerated", "datetime"));
                assert!(name.len() <= 45 && name.ends_with("_CL"), "{name}");
            }
        }
        assert_eq!(flows, 29);
    }

    #[test]
    fn the_tables_of_the_data_lake_are_those_that_are_named() {
        let (tables, targets) = all();
        let targets: Vec<(&str, &str)> = targets.iter().map(|(a, b)| (&**a, &**b)).collect();
        let lake = ["DeviceEvents_CL", "EmailEvents_CL"];
        let template = template(&tables, &targets, TablePlan::Auxiliary, &lake);
        let days = &template["parameters"]["lakeRetentionInDays"];
        assert_eq!(
            (&days["minValue"], &days["maxValue"]),
            (&json!(30), &json!(4383))
        );
        let mut found = Vec::new();
        for table in of_type(&template, "Microsoft.OperationalInsights/workspaces/tables") {
            let properties = &table["properties"];
            let kept = &properties["totalRetentionInDays"];
            if properties["plan"] == "Auxiliary" {
                assert_eq!(kept, "[parameters('lakeRetentionInDays')]");
                found.push(properties["schema"]["name"].as_str().unwrap());
            } else {
                assert_eq!(
                    (&properties["plan"], kept),
                    (&json!("Analytics"), &Value::Null)
                );
            }
        }
        assert_eq!(found, lake);
    }

    #[test]
    fn the_setting_names_the_rule_of_each_table() {
        let (tables, _) = all();
        let targets = [
            ("defender.machines", "machines_CL"),
            ("defender.alerts", "alerts_CL"),
            ("eset.detections", DETECTIONS.name),
        ];
        let text = setting(&tables, &targets);
        insta::assert_snapshot!(text.replace(',', "\n"), @r"
        defender.machines=<endpoint of sentinel-connector-routes-4>/<immutable id of sentinel-connector-routes-4>/Custom-machines_CL
        defender.alerts=<endpoint of sentinel-connector-routes-3>/<immutable id of sentinel-connector-routes-3>/Custom-alerts_CL
        eset.detections=Custom-IntegrationTable_CL
        ");
        let template = template(&tables, &targets, TablePlan::Analytics, &[]);
        let output = template["outputs"]["ROUTES"]["value"].as_str().unwrap();
        assert!(output.starts_with("[join(createArray(concat('defender.machines=', reference("));
        assert!(output.contains("'-4')), '2023-03-11').immutableId, '/Custom-machines_CL')"));
        assert!(output.ends_with("'eset.detections=Custom-IntegrationTable_CL'), ',')]"));
        let balance = output.matches('(').count() == output.matches(')').count();
        assert!(balance && output.len() < 24_576);
    }
}
