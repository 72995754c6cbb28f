// sentinel/azuredeploy.json: all of the content as one template, made from its sources.
//   node tests/content/template.js > sentinel/azuredeploy.json
import { pathToFileURL } from "node:url";
import * as content from "./content.js";

const OPERATORS = { gt: "GreaterThan", lt: "LessThan", eq: "Equal", ne: "NotEqual" };
const workspace = "[resourceId('Microsoft.OperationalInsights/workspaces', parameters('workspaceName'))]";

/** The template's text. */
export function template() {
  const parsers = Object.values(content.documents("parsers"));
  const functions = parsers.map((document) => savedSearch(functionOf(document)));
  const hunting = Object.values(content.documents("hunting")).map((document) => savedSearch(huntingOf(document)));
  const rules = Object.values(content.documents("analytic-rules")).map((rule) => ruleOf(rule, functions));
  const resources = [...functions, ...hunting, ...rules, connectorOf(content.connector()), workbookOf(content.workbook())];
  return JSON.stringify({
    $schema: "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
    contentVersion: "1.0.0.0",
    parameters: {
      workspaceName: { type: "string", minLength: 4, maxLength: 63, metadata: { description: "Log Analytics workspace that Microsoft Sentinel is on, in this resource group: its name, not its resource id" } },
      location: { type: "string", defaultValue: "[resourceGroup().location]", metadata: { description: "Region of the workbook" } },
      enableRules: { type: "bool", defaultValue: false, metadata: { description: "Whether the analytic rules raise alerts at once" } },
    },
    resources,
    outputs: {},
  }, null, 2) + "\n";
}

function functionOf(document) {
  const { name, parameters, query } = content.parser(document);
  const title = (document.Function ?? document.Parser).Title;
  return { name, properties: { category: "sentinel-connector", displayName: title, functionAlias: name, functionParameters: parameters, query: literal(query), version: 2 } };
}

function huntingOf({ id, name, description, query, tactics, relevantTechniques }) {
  const tags = { description, tactics: tactics.join(), techniques: relevantTechniques.join() };
  const list = Object.entries(tags).map(([tag, value]) => ({ name: tag, value: value.trim() }));
  return { name: id, properties: { category: "Hunting Queries", displayName: name, query: literal(query), tags: list, version: 2 } };
}

function savedSearch({ name, properties }) {
  return {
    type: "Microsoft.OperationalInsights/workspaces/savedSearches",
    apiVersion: "2020-08-01",
    name: `[concat(parameters('workspaceName'), '/${name}')]`,
    properties,
  };
}

function ruleOf(rule, functions) {
  const { alertDetailsOverride, customDetails, entityMappings, incidentConfiguration, tactics } = rule;
  return {
    type: "Microsoft.OperationalInsights/workspaces/providers/alertRules",
    apiVersion: "2024-09-01",
    name: `[concat(parameters('workspaceName'), '/Microsoft.SecurityInsights/${rule.id}')]`,
    kind: rule.kind,
    // A rule is refused while a function that it calls is missing.
    dependsOn: functions.map(({ name }) => `[resourceId('Microsoft.OperationalInsights/workspaces/savedSearches', parameters('workspaceName'), '${name.match(/\/(\w+)'/)[1]}')]`),
    properties: {
      displayName: rule.name,
      description: rule.description.trim(),
      severity: rule.severity,
      enabled: "[parameters('enableRules')]",
      query: literal(rule.query),
      queryFrequency: iso(rule.queryFrequency),
      queryPeriod: iso(rule.queryPeriod),
      triggerOperator: OPERATORS[rule.triggerOperator],
      triggerThreshold: rule.triggerThreshold,
      suppressionEnabled: false,
      suppressionDuration: "PT5H",
      tactics,
      techniques: rule.relevantTechniques ?? [],
      entityMappings,
      customDetails,
      alertDetailsOverride,
      eventGroupingSettings: rule.eventGroupingSettings,
      incidentConfiguration,
      templateVersion: rule.version,
    },
  };
}

function connectorOf({ connectivityCriterias, metadata, id, ...shown }) {
  return {
    type: "Microsoft.OperationalInsights/workspaces/providers/dataConnectorDefinitions",
    apiVersion: "2024-09-01",
    name: `[concat(parameters('workspaceName'), '/Microsoft.SecurityInsights/${id}')]`,
    kind: "Customizable",
    properties: { connectorUiConfig: { id, ...shown, connectivityCriteria: connectivityCriterias } },
  };
}

function workbookOf(book) {
  return {
    type: "Microsoft.Insights/workbooks",
    apiVersion: "2022-04-01",
    name: "[guid(resourceGroup().id, parameters('workspaceName'), 'sentinel-connector-workbook')]",
    location: "[parameters('location')]",
    kind: "shared",
    properties: { displayName: "sentinel-connector", category: "sentinel", sourceId: workspace, serializedData: literal(JSON.stringify(book)), version: "1.0" },
  };
}

// A text that begins with a bracket would be an expression.
const literal = (text) => (text.startsWith("[") ? `[${text}` : text);
const iso = (text) => (text.endsWith("d") ? `P${text.toUpperCase()}` : `PT${text.toUpperCase()}`);

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.stdout.write(template());
