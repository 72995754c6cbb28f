// Everything under sentinel/ is what it has to be, and each check knows what it must refuse.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as checks from "./checks.js";
import * as content from "./content.js";
import { analyse, body, workspace } from "./kql.js";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { FIXED, HANDED, files } from "./push.js";
import { template } from "./template.js";

const tables = content.tables();
const parsers = content.parsers();
const WORKSPACE = workspace(tables, parsers);
const declared = content.readJson("tests/content/outputs.json");
const rules = content.documents("analytic-rules");
const hunting = content.documents("hunting");

const copy = (value) => structuredClone(value);
const fine = (problems, where) => assert.deepEqual(problems, [], where);

/** The check says nothing of `good`, and names `what` for each way to break it. */
function refuses(check, good, breaks) {
  fine(check(copy(good)));
  for (const [what, spoil] of Object.entries(breaks)) {
    const bad = copy(good);
    const problems = check(spoil(bad) ?? bad);
    assert.ok(problems.some((problem) => problem.includes(what)), `${what}: ${problems}`);
  }
}

test("every parser gives the columns that are declared for it", () => {
  for (const parser of parsers) fine(checks.parser(parser, declared[parser.name], WORKSPACE), parser.name);
  assert.deepEqual(Object.keys(declared).sort(), parsers.map((parser) => parser.name).sort());
  const health = parsers.find((parser) => parser.name === "IntegrationHealth");
  const check = (parser) => checks.parser(parser, declared.IntegrationHealth, WORKSPACE);
  refuses(check, health, {
    "'Nowhere'": (bad) => void (bad.query += "| project Nowhere"),
    "column Pulled: missing": (bad) => void (bad.query += "| project-away Pulled"),
    "column Seconds: long": (bad) => void (bad.query += "| extend Seconds = tolong(Seconds)"),
    "column More: string, declared nowhere": (bad) => void (bad.query += '| extend More = ""'),
  });
});

test("every query is understood by Microsoft's parser", () => {
  const all = content.queries();
  for (const [where, text] of all) fine(checks.query(text, WORKSPACE), where);
  const kinds = new Set(all.map(([where]) => where.split(" ")[0]));
  assert.deepEqual([...kinds].sort(), ["alert", "connector", "hunting", "page", "playbook", "rule", "workbook"]);
  refuses((text) => checks.query(text, WORKSPACE), "IntegrationTable_CL | count", {
    KS204: () => "IntegrationTabel_CL | count",
    KS142: () => "IntegrationTable_CL | where detectionuuid == 1",
    KS211: () => "Absent()",
    KS006: () => "IntegrationTable_CL | where",
    "types int and string": () => "IntegrationTable_CL | where groupSize startswith 'a'",
  });
});

test("the columns of the parsers differ by more than case", () => {
  for (const [name, columns] of Object.entries(declared)) {
    const folded = Object.keys(columns).map((column) => column.toLowerCase());
    assert.equal(new Set(folded).size, folded.length, name);
  }
});

test("every rule follows the format", () => {
  for (const [name, rule] of Object.entries(rules)) fine(checks.rule(rule, WORKSPACE), name);
  assert.ok(Object.keys(rules).length >= 8);
  refuses((rule) => checks.rule(rule, WORKSPACE), rules.SameThreatOnManyDevices, {
    "id 7": (bad) => void (bad.id = 7),
    "name is empty": (bad) => void (bad.name = "n".repeat(257)),
    "query is missing": (bad) => void delete bad.query,
    "triger is not known": (bad) => void (bad.triger = 1),
    "kind is not": (bad) => void (bad.kind = "NRT"),
    "does not say createIncident": (bad) => void delete bad.incidentConfiguration.createIncident,
    "does not say how its incidents": (bad) => void delete bad.incidentConfiguration.groupingConfiguration,
    "reopens closed incidents": (bad) => void (bad.incidentConfiguration.groupingConfiguration.reopenClosedIncident = true),
    "severity Critical": (bad) => void (bad.severity = "Critical"),
    "queryPeriod 30m": (bad) => void (bad.queryPeriod = "30m"),
    "queryFrequency 1m": (bad) => void (bad.queryFrequency = "1m"),
    "two days or more": (bad) => void Object.assign(bad, { queryPeriod: "2d", queryFrequency: "30m" }),
    "triggerOperator above": (bad) => void (bad.triggerOperator = "above"),
    "triggerThreshold -1": (bad) => void (bad.triggerThreshold = -1),
    "tactic Evil": (bad) => void (bad.tactics = ["Evil"]),
    "technique T1190": (bad) => void bad.relevantTechniques.push("T1190"),
    "technique T0000": (bad) => void bad.relevantTechniques.push("T0000"),
    "Host has no Name": (bad) => void (bad.entityMappings[0].fieldMappings[0].identifier = "Name"),
    "Host: no column Device": (bad) => void (bad.entityMappings[0].fieldMappings[0].columnName = "Device"),
    "no column Threats": (bad) => void (bad.customDetails.Threat = "Threats"),
    "custom detail A-B": (bad) => void (bad.customDetails["A-B"] = "Name"),
    "no column Nmae": (bad) => void (bad.alertDetailsOverride.alertDisplayNameFormat = "{{Nmae}}"),
    "grouped by Names": (bad) => void (bad.incidentConfiguration.groupingConfiguration.groupByCustomDetails = ["Names"]),
    "aggregationKind Each": (bad) => void (bad.eventGroupingSettings.aggregationKind = "Each"),
    "version 1.0": (bad) => void (bad.version = "1.0"),
    ASCII: (bad) => void (bad.description = "\u2026"),
  });
});

test("every hunting query follows the format", () => {
  for (const [name, hunt] of Object.entries(hunting)) fine(checks.hunting(hunt, WORKSPACE), name);
  assert.ok(Object.keys(hunting).length >= 6);
  refuses((hunt) => checks.hunting(hunt, WORKSPACE), hunting.NewThreats, {
    "severity is not known": (bad) => void (bad.severity = "High"),
    "tactics is missing": (bad) => void delete bad.tactics,
    "0 entities": (bad) => void (bad.entityMappings = []),
  });
});

test("ids are GUIDs, each once", () => {
  const parsersWithIds = Object.entries(content.documents("parsers")).filter(([, parser]) => parser.id);
  const all = { ...rules, ...hunting, ...Object.fromEntries(parsersWithIds) };
  refuses(checks.ids, all, {
    "has the id of": (bad) => void (bad.NewThreats.id = bad.RowsRejected.id),
    "is no GUID": (bad) => void (bad.NewThreats.id = "one"),
  });
});

test("the ASIM parsers give every field that the schema asks for", () => {
  const [all, filtering] = ["ASimAlertEventESETProtect", "vimAlertEventESETProtect"].map((name) => parsers.find((one) => one.name === name));
  const columns = (parser) => analyse(body(parser), WORKSPACE).columns;
  assert.deepEqual(columns(all), columns(filtering));
  refuses(checks.asim, columns(filtering), {
    "EventUid is missing": (bad) => void delete bad.EventUid,
    "AlertName is missing": (bad) => void delete bad.AlertName,
    "Severity is no field": (bad) => void (bad.Severity = "string"),
    "EventCount is long": (bad) => void (bad.EventCount = "long"),
    "Rule stands for nothing": (bad) => void delete bad.RuleName,
    "UsernameType without Username": (bad) => void delete bad.Username,
    "Username without UsernameType": (bad) => void delete bad.UsernameType,
  });
  const given = content.documents("parsers").vimAlertEventESETProtect.ParserParams;
  refuses(checks.asimParameters, given, { takes: (bad) => void bad.reverse() });
});

test("the connector's definition follows the format", () => {
  refuses(checks.connector, content.connector(), {
    "title is missing": (bad) => void delete bad.title,
    "sampleQueries is empty": (bad) => void (bad.sampleQueries = []),
    "criterion SentinelKinds": (bad) => void (bad.connectivityCriterias[0].type = "SentinelKinds"),
    "shared keys": (bad) => void (bad.permissions.resourceProvider[0].provider += "/sharedKeys"),
  });
});

test("the playbook uses what it declares, and nothing is fixed in it", () => {
  refuses(checks.playbook, content.playbook(), {
    "parameter Spare": (bad) => void (bad.parameters.Spare = {}),
    "variable spare": (bad) => void (bad.variables.spare = 1),
    "no parameter WorkspaceId": (bad) => void delete bad.parameters.WorkspaceId,
    "fixed location": (bad) => void (bad.resources[0].location = "westeurope"),
    "API version": (bad) => void (bad.resources[1].apiVersion = "latest"),
    "no title": (bad) => void delete bad.metadata.title,
  });
});

test("the logo is small and only drawn", () => {
  refuses(checks.logo, content.read("sentinel/logo.svg"), {
    "5 KB": (bad) => bad + " ".repeat(6000),
    "holds <script": (bad) => bad.replace("</svg>", "<script/></svg>"),
    "holds <title": (bad) => bad.replace("</svg>", "<title>a</title></svg>"),
    "75 by 75": (bad) => bad.replace("0 0 75 75", "0 0 9 9"),
  });
});

test("the solution names every file of it", () => {
  const solution = content.readJson("sentinel/Data/Solution_SentinelConnector.json");
  const named = (key) => solution[key].map((file) => file.split("/").at(-1).replace(".yaml", "")).sort();
  assert.deepEqual(named("Analytic Rules"), Object.keys(rules).sort());
  assert.deepEqual(named("Hunting Queries"), Object.keys(hunting).sort());
  assert.deepEqual(named("Parsers"), Object.keys(content.documents("parsers")).sort());
  const files = ["Data Connectors", "Workbooks", "Playbooks", "Analytic Rules", "Hunting Queries", "Parsers"].flatMap((key) => solution[key]);
  for (const file of files) content.read(`sentinel/${file}`);
  assert.match(content.read("sentinel/ReleaseNotes.md"), new RegExp(`\\| ${solution.Version.replaceAll(".", "\\.")} +\\|`));
  const metadata = content.readJson("sentinel/SolutionMetadata.json");
  for (const key of ["publisherId", "offerId", "firstPublishDate", "providers", "categories", "support"]) assert.ok(metadata[key], key);
  for (const { connectorId } of Object.values(rules).flatMap((rule) => rule.requiredDataConnectors)) assert.equal(connectorId, content.connector().id);
});

test("the template holds all of the content as it is", () => {
  assert.equal(content.read("sentinel/azuredeploy.json"), template(), "node tests/content/template.js > sentinel/azuredeploy.json");
  const { resources } = JSON.parse(template());
  const [parsersIn, rulesIn] = ["savedSearches", "alertRules"].map((type) => resources.filter((one) => one.type.endsWith(`/${type}`)));
  assert.equal(parsersIn.length, parsers.length + Object.keys(hunting).length);
  assert.equal(rulesIn.length, Object.keys(rules).length);
  for (const { properties } of rulesIn) fine(checks.query(properties.query, WORKSPACE), properties.displayName);
  assert.equal(new Set(resources.map(({ name }) => name)).size, resources.length);
});

test("the files of the Push page are made from the content, and hang together", () => {
  for (const [name, text] of Object.entries(files())) assert.equal(content.read(name), text, `${name}: node tests/content/push.js`);
  const part = (name) => content.readJson(`sentinel/data-connectors/SentinelConnectorPush_ccf/${name}.json`);
  const [definition, connection, rule, made] = ["connectorDefinition", "dataConnector", "DCR", "table"].map(part);
  refuses(checks.push, { definition, connection, rule, made }, {
    "kind RestApiPoller": (bad) => void (bad.connection.kind = "RestApiPoller"),
    "the definition Other": (bad) => void (bad.connection.properties.connectorDefinitionName = "Other"),
    "no button": (bad) => void (bad.definition.properties.connectorUiConfig.instructionSteps[0].instructions.pop()),
    "fills in Secret": (bad) => void (bad.definition.properties.connectorUiConfig.instructionSteps[1].instructions[0].parameters.fillWith = ["Secret"]),
    "no stream Custom-Other_CL": (bad) => void (bad.connection.properties.dcrConfig.streamName = "Custom-Other_CL"),
    "no table for Custom-IntegrationTable_CL": (bad) => void (bad.made = bad.made.filter(({ name }) => name !== "IntegrationTable_CL")),
    "columns of IntegrationTable_CL differ": (bad) => void bad.made.find(({ name }) => name === "IntegrationTable_CL").properties.schema.columns.pop(),
    "connected by its configuration": (bad) => void (bad.definition.properties.connectorUiConfig.connectivityCriteria[0].type = "HasDataConnectors"),
  });
  const { connectivityCriteria, ...shown } = definition.properties.connectorUiConfig;
  fine(checks.connector({ ...shown, connectivityCriterias: connectivityCriteria }));
  for (const [where, text] of content.connectorQueries({ ...shown, connectivityCriterias: connectivityCriteria })) fine(checks.query(text, WORKSPACE), where);
});

test("what the Push page has pasted is all that the program needs beside its source", () => {
  const example = {
    AZURE_TENANT_ID: "77777777-7777-7777-7777-777777777777",
    AZURE_CLIENT_ID: "88888888-8888-8888-8888-888888888888",
    AZURE_CLIENT_SECRET: "abc~D.e_f",
    LOGS_INGESTION_ENDPOINT: "https://contoso-abcd.westeurope-1.ingest.monitor.azure.com",
    DCR_IMMUTABLE_ID: "dcr-0123456789abcdef0123456789abcdef",
  };
  assert.deepEqual(Object.keys(example), Object.keys(HANDED));
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "push-"));
  const source = { ESET_REGION: "eu", ESET_LOGIN: "api@contoso.example", ESET_PASSWORD: "p", CONNECTOR_DATA: folder };
  const program = path.join(process.env.CARGO_TARGET_DIR ?? path.join(content.ROOT, "target"), "debug/sentinel-connector");
  const check = (env) => execFileSync(program, ["check", "--offline"], { env, cwd: folder, encoding: "utf8", stdio: "pipe" });
  const pasted = { ...source, ...example, ...FIXED };
  assert.doesNotMatch(check(pasted), /^(BAD|warn)/m);
  for (const name of ["LOGS_INGESTION_ENDPOINT", "DCR_IMMUTABLE_ID"]) {
    const { [name]: _, ...less } = pasted;
    assert.throws(() => check(less), (error) => (error.stdout + error.stderr).includes(name), name);
  }
  fs.rmSync(folder, { recursive: true });
});

test("the solution passes what Azure-Sentinel checks, but for the address of its support, which whoever submits it has", () => {
  const solution = content.readJson("sentinel/Data/Solution_SentinelConnector.json");
  const metadata = content.readJson("sentinel/SolutionMetadata.json");
  assert.deepEqual(checks.solution({ solution, metadata }), ["support has neither email nor link"]);
  assert.match(content.read("sentinel/why-a-function-app.md"), /\*\*Support\*\*/);
  const submitted = { solution, metadata: { ...metadata, support: { ...metadata.support, link: "https://contoso.example/support" } } };
  refuses(checks.solution, submitted, {
    "id A.b": (bad) => void Object.assign(bad.metadata, { publisherId: "A", offerId: "b" }),
    "version 1.1.0": (bad) => void (bad.solution.Version = "1.1.0"),
    "domain Security": (bad) => void bad.metadata.categories.domains.push("Security"),
    "no domain": (bad) => void (bad.metadata.categories.domains = []),
    "vertical Space": (bad) => void (bad.metadata.categories.verticals = ["Space"]),
    "support's link": (bad) => void (bad.metadata.support.link = "contoso"),
    "support's email": (bad) => void (bad.metadata.support.email = "contoso"),
  });
});

test("Microsoft Sentinel is called by its name", () => {
  for (const file of ["sentinel/azuredeploy.json", "sentinel/push/azuredeploy.json", "sentinel/Data/Solution_SentinelConnector.json", "sentinel/playbooks/CommentOnIncident/azuredeploy.json"]) {
    fine(checks.branding(content.read(file)), file);
  }
  refuses(checks.branding, "Rows of sentinel-connector in Microsoft Sentinel", { "is not Microsoft Sentinel": () => "Rows in Sentinel" });
});

test("the connector's page has the parts that the schema asks for", () => {
  refuses(checks.page, content.connector(), {
    "id has spaces": (bad) => void (bad.id = "a b"),
    "graphQueries: no legend": (bad) => void delete bad.graphQueries[0].legend,
    "the data type a b": (bad) => void (bad.dataTypes[0].name = "a b"),
    "availability says not both": (bad) => void delete bad.availability.isPreview,
    "does not say delete": (bad) => void delete bad.permissions.resourceProvider[0].requiredPermissions.delete,
    "custom permission says nothing": (bad) => void (bad.permissions.customs[0].description = " "),
  });
});

test("workbook and playbook have what their lists show", () => {
  const [entry] = content.readJson("sentinel/workbooks/WorkbooksMetadata.json");
  refuses(checks.book, entry, {
    "title is missing": (bad) => void delete bad.title,
    "color is not known": (bad) => void (bad.color = "red"),
    "dataTypesDependencies has an empty name": (bad) => void bad.dataTypesDependencies.push(""),
  });
  content.read(`sentinel/workbooks/${entry.templateRelativePath}`);
  assert.deepEqual(entry.dataTypesDependencies.toSorted(), Object.keys(tables).toSorted());
  refuses(checks.shelf, content.playbook(), {
    "support/tier is missing": (bad) => void delete bad.metadata.support,
    "is no time": (bad) => void (bad.metadata.lastUpdateTime = "yesterday"),
  });
});
