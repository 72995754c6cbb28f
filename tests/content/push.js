// The page of kind Push for a connector that runs outside of Azure Functions: its four files as the packager of
// Azure-Sentinel takes them, and the template that brings the page into a workspace.
//   node tests/content/push.js
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import * as content from "./content.js";

const ID = "SentinelConnectorPush";
const FOLDER = `sentinel/data-connectors/${ID}_ccf`;
const CONNECTIONS = `${ID}Connections`;
const PREVIEW = "2022-09-01-preview";
const INSIGHTS = "Microsoft.SecurityInsights";
const WORKSPACE = "Microsoft.OperationalInsights/workspaces";

/** What the button hands out, by the setting that takes it. */
export const HANDED = {
  AZURE_TENANT_ID: "TenantId",
  AZURE_CLIENT_ID: "ApplicationId",
  AZURE_CLIENT_SECRET: "ApplicationSecret",
  LOGS_INGESTION_ENDPOINT: "DataCollectionEndpoint",
  DCR_IMMUTABLE_ID: "DataCollectionRuleId",
};

/** What is the same for everybody. */
export const FIXED = { SINK: "logs-ingestion", DCR_STREAM: "Custom-IntegrationTable_CL", DCR_STREAM_INCIDENTS: "Custom-IntegrationTableIncidents_CL" };

function definition() {
  const { connectivityCriterias, instructionSteps, permissions, id, metadata, ...shown } = content.connector();
  const label = (setting, given) => ({ type: "CopyableLabel", parameters: { label: setting, ...given } });
  const handed = Object.entries(HANDED).map(([setting, name]) => label(setting, { fillWith: [name], placeholder: "Filled in once the resources are deployed" }));
  const fixed = Object.entries(FIXED).map(([setting, value]) => label(setting, { value }));
  const text = (words) => ({ type: "Markdown", parameters: { content: words } });
  return {
    name: ID,
    apiVersion: PREVIEW,
    type: `${INSIGHTS}/dataConnectorDefinitions`,
    location: "[parameters('workspace-location')]",
    kind: "Customizable",
    properties: {
      connectorUiConfig: {
        ...shown,
        id: ID,
        title: `${shown.title}, run by yourself`,
        descriptionMarkdown: "Takes what the connector sends from wherever you run it: a virtual machine, a container, a laptop. One button makes the tables, the data collection rule, an app registration and its role, and shows the settings to paste. Who would rather have it run in Azure takes the page *ESET PROTECT and Microsoft Defender (sentinel-connector)*.",
        connectivityCriteria: connectivityCriterias,
        permissions: {
          resourceProvider: permissions.resourceProvider,
          customs: [
            { name: "Microsoft Entra", description: "The right to register an application and to give it a secret, such as the role *Application Developer*." },
            { name: "Azure", description: "The right to assign *Monitoring Metrics Publisher* on the data collection rule, such as the role *Owner* or *User Access Administrator*." },
            ...permissions.customs.filter(({ name }) => name !== "Azure Functions"),
          ],
        },
        instructionSteps: [
          {
            title: "Step 1 - Make what takes the rows",
            description: "The tables `IntegrationTable_CL` and `IntegrationTableIncidents_CL`, a data collection rule and its endpoint, an app registration with a secret, and its role on the rule.",
            instructions: [
              text("Tables that are there already keep their rows and their own columns. The secret is shown once: paste it at once, and note when it ends; `check` warns 30 days before."),
              { type: "DeployPushConnectorButton", parameters: { label: "Deploy tables, rule and app registration", applicationDisplayName: "sentinel-connector" } },
            ],
          },
          {
            title: "Step 2 - Paste the settings",
            description: "Into the file of settings of the service or the container; docs/run.md shows both.",
            instructions: [...handed, ...fixed],
          },
          {
            title: "Step 3 - Say who reads, try it, and start",
            description: "Add `ESET_REGION`, `ESET_LOGIN` and `ESET_PASSWORD`, or the `DEFENDER_` settings; `sentinel-connector check` tries each of them and says how to mend what is wrong. Then start the service. Within two periods a health row of each stream arrives, and this page says *Connected*.",
          },
        ],
      },
    },
  };
}

const dataConnector = () => ({
  name: CONNECTIONS,
  apiVersion: "2024-09-01",
  type: `${INSIGHTS}/dataConnectors`,
  kind: "Push",
  properties: {
    connectorDefinitionName: ID,
    dcrConfig: {
      streamName: FIXED.DCR_STREAM,
      dataCollectionEndpoint: "[[parameters('dcrConfig').dataCollectionEndpoint]",
      dataCollectionRuleImmutableId: "[[parameters('dcrConfig').dataCollectionRuleImmutableId]",
    },
    auth: { type: "Push", AppId: "[[parameters('auth').appId]", ServicePrincipalId: "[[parameters('auth').servicePrincipalId]" },
    request: { RetryCount: 1 },
    response: { eventsJsonPaths: ["$"] },
  },
});

function rule() {
  const flows = Object.keys(content.tables()).map((table) => `Custom-${table}`);
  const declared = Object.entries(content.tables()).map(([table, columns]) => [`Custom-${table}`, { columns: columns.map(column) }]);
  return {
    name: `${ID}DCR`,
    apiVersion: "2023-03-11",
    type: "Microsoft.Insights/dataCollectionRules",
    location: "[parameters('workspace-location')]",
    properties: {
      dataCollectionEndpointId: "[concat('/subscriptions/', parameters('subscription'), '/resourceGroups/', parameters('resourceGroupName'), '/providers/Microsoft.Insights/dataCollectionEndpoints/', parameters('workspace'))]",
      streamDeclarations: Object.fromEntries(declared),
      destinations: { logAnalytics: [{ workspaceResourceId: "[variables('workspaceResourceId')]", name: "workspace" }] },
      dataFlows: flows.map((stream) => ({ streams: [stream], destinations: ["workspace"], transformKql: "source", outputStream: stream })),
    },
  };
}

const column = ({ name, type }) => ({ name, type });

const tables = () => Object.entries(content.tables()).map(([name, columns]) => ({
  name,
  type: `${WORKSPACE}/tables`,
  apiVersion: "2025-07-01",
  properties: { schema: { name, columns: columns.map(column) } },
}));

/** What the page makes in a workspace: its template, in the five parts that Microsoft's guide for such pages asks for. */
function template() {
  const solution = content.readJson("sentinel/Data/Solution_SentinelConnector.json");
  const product = (kind, content, version) => `[concat(substring(variables('solutionId'), 0, 50), '-${kind}-', uniqueString(concat(variables('solutionId'), '-${content}-', '${version}')))]`;
  const within = (name) => `[concat(parameters('workspace'), '/${INSIGHTS}/${name}')]`;
  const extension = (kind, name) => `[extensionResourceId(resourceId('${WORKSPACE}', parameters('workspace')), '${INSIGHTS}/${kind}', ${name})]`;
  const { Version: version, Name: name, Author: author } = solution;
  const source = { kind: "Solution", name, sourceId: "[variables('solutionId')]" };
  const metadata = (contentId, kind, parent, more = {}) => ({
    type: `${WORKSPACE}/providers/metadata`,
    apiVersion: "2022-01-01-preview",
    name: within(`DataConnector-${contentId}`),
    properties: { parentId: extension(parent, `'${contentId}'`), contentId, kind, version, source, author: { name: author }, support: { name: author, tier: "Community" }, ...more },
  });
  const needed = { dependencies: { criteria: [{ kind: "ResourcesDataConnector", contentId: CONNECTIONS, version }] } };
  const contents = (contentId, kind, short, mainTemplate) => ({
    type: `${WORKSPACE}/providers/contentTemplates`,
    apiVersion: "2023-04-01-preview",
    name: within(`${contentId}-${version}`),
    location: "[parameters('workspace-location')]",
    dependsOn: [extension("contentPackages", "variables('solutionId')")],
    properties: {
      contentId,
      displayName: `${name} ${contentId}`,
      contentKind: kind,
      mainTemplate: { $schema: SCHEMA, contentVersion: version, parameters: {}, variables: {}, ...mainTemplate },
      packageKind: "Solution",
      packageVersion: version,
      packageName: name,
      packageId: "[variables('solutionId')]",
      contentProductId: product(short, `${kind}-${contentId}`, version),
      contentSchemaVersion: "3.0.0",
      version,
    },
  });
  const page = definition();
  const shown = { ...page, type: `${WORKSPACE}/providers/dataConnectorDefinitions`, name: within(ID) };
  const connection = { ...dataConnector(), type: `${WORKSPACE}/providers/dataConnectors`, name: `[[concat(parameters('workspace'), '/${INSIGHTS}/${CONNECTIONS}')]` };
  const given = {
    connectorDefinitionName: { type: "string", defaultValue: ID, minLength: 1 },
    workspace: { type: "string", defaultValue: "[parameters('workspace')]" },
    dcrConfig: { type: "object", defaultValue: { dataCollectionEndpoint: "endpoint", dataCollectionRuleImmutableId: "immutable id" } },
    auth: { type: "object", defaultValue: { appId: "application", servicePrincipalId: "service principal" } },
  };
  return {
    $schema: SCHEMA,
    contentVersion: "1.0.0.0",
    parameters: {
      workspace: { type: "string", minLength: 4, maxLength: 63, metadata: { description: "Log Analytics workspace that Microsoft Sentinel is on, in this resource group: its name" } },
      "workspace-location": { type: "string", defaultValue: "[resourceGroup().location]", metadata: { description: "Region of the workspace" } },
      subscription: { type: "string", defaultValue: "[last(split(subscription().id, '/'))]", metadata: { description: "Subscription of the workspace" } },
      resourceGroupName: { type: "string", defaultValue: "[resourceGroup().name]", metadata: { description: "Resource group of the workspace" } },
    },
    variables: {
      workspaceResourceId: `[resourceId('${WORKSPACE}', parameters('workspace'))]`,
      // Fifty characters of it are asked for.
      solutionId: `sentinelconnector.azure-sentinel-solution-${ID.toLowerCase()}`,
    },
    resources: [
      contents(ID, "DataConnector", "dc", { resources: [shown, metadata(ID, "DataConnector", "dataConnectorDefinitions", needed), rule(), ...tables()] }),
      shown,
      metadata(ID, "DataConnector", "dataConnectorDefinitions", needed),
      contents(CONNECTIONS, "ResourcesDataConnector", "rdc", { parameters: given, resources: [metadata(CONNECTIONS, "ResourcesDataConnector", "dataConnectors"), connection] }),
      {
        type: `${WORKSPACE}/providers/contentPackages`,
        apiVersion: "2023-04-01-preview",
        name: `[concat(parameters('workspace'), '/${INSIGHTS}/', variables('solutionId'))]`,
        location: "[parameters('workspace-location')]",
        properties: {
          version,
          kind: "Solution",
          contentKind: "Solution",
          contentSchemaVersion: "3.0.0",
          contentId: "[variables('solutionId')]",
          packageId: "[variables('solutionId')]",
          contentProductId: product("sl", "Solution", version),
          displayName: `${name}, run by yourself`,
          publisherDisplayName: author,
          descriptionHtml: page.properties.connectorUiConfig.descriptionMarkdown,
          source,
          author: { name: author },
          support: { name: author, tier: "Community" },
          dependencies: { operator: "AND", criteria: [{ kind: "DataConnector", contentId: ID, version }] },
          firstPublishDate: content.readJson("sentinel/SolutionMetadata.json").firstPublishDate,
          providers: content.readJson("sentinel/SolutionMetadata.json").providers,
        },
      },
    ],
    outputs: {},
  };
}

const SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";

const KINDS = { string: "String", int: "Int", boolean: "Bool", datetime: "DateTime", dynamic: "Dynamic" };

/** A table as the KQL check of Azure-Sentinel wants to be told of it. */
const customTable = ([Name, columns]) => ({ Name, Properties: columns.map(({ name, type }) => ({ Name: name, Type: KINDS[type] })) });

/** Every file of the page, by name; and the tables, for the reviewers' checks. */
export function files() {
  const made = {
    [`${FOLDER}/connectorDefinition.json`]: definition(),
    [`${FOLDER}/dataConnector.json`]: dataConnector(),
    [`${FOLDER}/DCR.json`]: rule(),
    [`${FOLDER}/table.json`]: tables(),
    "sentinel/push/azuredeploy.json": template(),
    ...Object.fromEntries(Object.entries(content.tables()).map((table) => [`sentinel/custom-tables/${table[0]}.json`, customTable(table)])),
  };
  return Object.fromEntries(Object.entries(made).map(([name, value]) => [name, JSON.stringify(value, null, 2) + "\n"]));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [name, text] of Object.entries(files())) {
    fs.mkdirSync(path.dirname(path.join(content.ROOT, name)), { recursive: true });
    fs.writeFileSync(path.join(content.ROOT, name), text);
  }
}
