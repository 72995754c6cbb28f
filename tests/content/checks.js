// What content has to be. Each check gives a list of problems: an empty one when all is well.
import { analyse, body } from "./kql.js";
import { readJson } from "./content.js";

const FORMAT = readJson("tests/content/format.json");
const ASIM = readJson("tests/content/asim_alert_event.json");
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MINUTES = { m: 1, h: 60, d: 1440 };

/** The parser's errors in a query. */
export const query = (text, workspace) => analyse(text, workspace).errors;

/** A parser has no error, and its result has the columns that are declared for it. */
export function parser(one, declared, workspace) {
  const { errors, columns } = analyse(body(one), workspace);
  if (errors.length) return errors;
  if (!declared) return [`${one.name} has no declared columns`];
  return differences(columns, declared);
}

function differences(found, declared) {
  const names = new Set([...Object.keys(found), ...Object.keys(declared)]);
  return [...names].filter((name) => found[name] !== declared[name])
    .map((name) => `column ${name}: ${found[name] ?? "missing"}, declared ${declared[name] ?? "nowhere"}`);
}

/** A scheduled rule follows the format, and its columns are those of its query. */
export function rule(one, workspace) {
  const problems = [...shape(one, FORMAT.rule), ...common(one, workspace)];
  const say = (wrong, what) => wrong && problems.push(what);
  const [frequency, period] = [one.queryFrequency, one.queryPeriod].map(minutes);
  say(one.kind !== "Scheduled", "kind is not Scheduled");
  say(!FORMAT.severities.includes(one.severity), `severity ${one.severity}`);
  say(!(frequency >= 5 && frequency <= 14 * 1440), `queryFrequency ${one.queryFrequency}`);
  say(!(period >= frequency && period <= 14 * 1440), `queryPeriod ${one.queryPeriod} for ${one.queryFrequency}`);
  say(period >= 2 * 1440 && frequency < 60, "who looks back two days or more runs once an hour at most");
  say(!FORMAT.operators.includes(one.triggerOperator), `triggerOperator ${one.triggerOperator}`);
  say(!(one.triggerThreshold >= 0 && one.triggerThreshold <= 10_000), `triggerThreshold ${one.triggerThreshold}`);
  const grouping = one.eventGroupingSettings?.aggregationKind ?? "SingleAlert";
  say(!FORMAT.groupings.includes(grouping), `aggregationKind ${grouping}`);

  const { columns } = analyse(one.query ?? "", workspace);
  const details = Object.entries(one.customDetails ?? {});
  say(!details.length || details.length > 20, `${details.length} custom details`);
  for (const [key, column] of details) {
    say(!/^[A-Za-z0-9]{1,20}$/.test(key), `custom detail ${key}`);
    say(!(column in columns), `custom detail ${key}: no column ${column}`);
  }
  for (const [key, text] of Object.entries(one.alertDetailsOverride ?? {})) {
    const named = [...text.matchAll(/\{\{(\w+)\}\}/g)].map(([, name]) => name);
    say(named.length > 3, `${key} names more than three columns`);
    for (const name of named) say(!(name in columns), `${key}: no column ${name}`);
  }
  // In the Defender portal a rule that only raises alerts is invisible: none leans on a default.
  const { createIncident, groupingConfiguration } = one.incidentConfiguration ?? {};
  say(createIncident !== true, "does not say createIncident");
  say(typeof groupingConfiguration?.enabled !== "boolean", "does not say how its incidents are grouped");
  say(groupingConfiguration?.reopenClosedIncident !== false, "reopens closed incidents, which the Defender portal does not");
  const grouped = groupingConfiguration?.groupByCustomDetails ?? [];
  for (const key of grouped) say(!(key in (one.customDetails ?? {})), `incidents are grouped by ${key}, which is no custom detail`);
  return problems;
}

/** A hunting query follows the format, and its columns are those of its query. */
export const hunting = (one, workspace) => [...shape(one, FORMAT.hunting), ...common(one, workspace)];

/** A connector definition follows the format. */
export function connector(one) {
  const problems = shape(one, FORMAT.connector);
  const lists = ["graphQueries", "sampleQueries", "dataTypes", "connectivityCriterias", "instructionSteps"];
  for (const name of lists) if (!one[name]?.length) problems.push(`${name} is empty`);
  for (const { type } of one.connectivityCriterias ?? []) if (type !== "IsConnectedQuery") problems.push(`criterion ${type}`);
  if (one.availability?.status !== 1) problems.push("not available");
  if (JSON.stringify(one).includes("sharedKeys")) problems.push("asks for the workspace's shared keys");
  return problems;
}

// What the button fills in: articles/sentinel/create-push-codeless-connector.md of Microsoft's documentation.
const FILLED = ["TenantId", "ApplicationId", "ApplicationSecret", "DataCollectionEndpoint", "DataCollectionRuleId"];

/** The four parts of a page of kind Push fit each other. */
export function push({ definition, connection, rule, made }) {
  const problems = [];
  const say = (wrong, what) => wrong && problems.push(what);
  const { id, connectivityCriteria, instructionSteps } = definition.properties.connectorUiConfig;
  say(connection.kind !== "Push" || connection.properties.auth.type !== "Push", `kind ${connection.kind}, not Push`);
  say(definition.kind !== "Customizable" || definition.name !== id, "the definition is not customizable, or has two names");
  const meant = connection.properties.connectorDefinitionName;
  say(meant !== id, `the connection is of the definition ${meant}, not ${id}`);
  const steps = instructionSteps.flatMap((step) => step.instructions ?? []);
  say(!steps.some(({ type }) => type === "DeployPushConnectorButton"), "no button deploys anything");
  for (const { parameters: { fillWith = [] } } of steps) for (const name of fillWith) say(!FILLED.includes(name), `fills in ${name}, which nobody hands out`);
  for (const { type } of connectivityCriteria) say(type !== "IsConnectedQuery", `connected by its configuration: ${type}`);
  const streams = rule.properties.streamDeclarations;
  const { streamName } = connection.properties.dcrConfig;
  say(!(streamName in streams), `no stream ${streamName}`);
  for (const { streams: [stream], outputStream } of rule.properties.dataFlows) {
    const table = made.find(({ name }) => `Custom-${name}` === outputStream);
    say(!table, `no table for ${outputStream}`);
    const same = JSON.stringify(table?.properties.schema.columns) === JSON.stringify(streams[stream].columns);
    say(table && !same, `columns of ${table?.name} differ`);
  }
  return problems;
}

/** No two of these have the same id, and each is a GUID. */
export function ids(named) {
  const first = {};
  return Object.entries(named).flatMap(([name, { id }]) => {
    if (!GUID.test(id)) return [`${name}: ${id} is no GUID`];
    if (first[id]) return [`${name} has the id of ${first[id]}`];
    first[id] = name;
    return [];
  });
}

/** An ASIM parser's columns are those of the schema: all that are asked for, and none beside it. */
export function asim(columns) {
  const known = { ...ASIM.mandatory, ...ASIM.recommended, ...ASIM.optional };
  for (const [name, { type }] of Object.entries(ASIM.conditional)) known[name] = type;
  for (const [name, of] of Object.entries(ASIM.aliases)) known[name] = known[of[0]];
  const problems = [];
  for (const name of [...Object.keys(ASIM.mandatory), ...Object.keys(ASIM.recommended)]) {
    if (!(name in columns)) problems.push(`${name} is missing`);
  }
  for (const [name, type] of Object.entries(columns)) {
    if (!(name in known)) problems.push(`${name} is no field of ${ASIM.schema}`);
    else if (known[name] !== type) problems.push(`${name} is ${type}, not ${known[name]}`);
    if (name in ASIM.aliases && !ASIM.aliases[name].some((of) => of in columns)) problems.push(`${name} stands for nothing`);
    const { with: other } = ASIM.conditional[name] ?? {};
    if (other && !(other in columns)) problems.push(`${name} without ${other}`);
  }
  for (const [name, { with: other }] of Object.entries(ASIM.conditional)) {
    if (other in columns && !(name in columns)) problems.push(`${other} without ${name}`);
  }
  return problems;
}

/** A filtering parser takes the parameters of the schema, in their order. */
export function asimParameters(given) {
  const expected = Object.entries(ASIM.parameters).map(([name, type]) => `${name}:${type}`);
  const found = given.map(({ Name, Type }) => `${Name}:${Type}`);
  return found.join() === expected.join() ? [] : [`takes ${found}, not ${expected}`];
}

/** A playbook: everything declared is used, nothing secret, no fixed place. */
export function playbook(template) {
  const { parameters, variables, ...rest } = template;
  const problems = [];
  const used = JSON.stringify([rest, variables]);
  for (const name of Object.keys(parameters)) if (!used.includes(`parameters('${name}')`)) problems.push(`parameter ${name} is not used`);
  for (const name of Object.keys(variables)) if (!used.includes(`variables('${name}')`)) problems.push(`variable ${name} is not used`);
  for (const [, name] of used.matchAll(/parameters\('(\w+)'\)/g)) if (!(name in parameters)) problems.push(`no parameter ${name}`);
  for (const { name, location, apiVersion } of template.resources) {
    if (location !== "[parameters('Location')]") problems.push(`${name} has a fixed location`);
    if (!/^\d{4}-\d{2}-\d{2}$/.test(apiVersion)) problems.push(`${name} has the API version ${apiVersion}`);
  }
  for (const key of ["title", "description", "prerequisites", "author", "support"]) if (!template.metadata?.[key]) problems.push(`no ${key}`);
  return problems;
}

/** A logo of our own: small, drawn, without anything that runs or is fetched. */
export function logo(text) {
  const problems = [];
  if (Buffer.byteLength(text) > 5 * 1024) problems.push("more than 5 KB");
  for (const bad of ["<script", "<image", "<title", "href", "<foreignObject", "data:", "style=", "cls=", "data-name", 'id="']) if (text.includes(bad)) problems.push(`holds ${bad}`);
  if (!/<svg[^>]*viewBox="0 0 75 75"/.test(text)) problems.push("is not 75 by 75");
  return problems;
}

function shape(one, { required, optional }) {
  const missing = required.filter((key) => one[key] === undefined).map((key) => `${key} is missing`);
  const strange = Object.keys(one).filter((key) => !required.includes(key) && !optional.includes(key)).map((key) => `${key} is not known`);
  return [...missing, ...strange];
}

function common(one, workspace) {
  const problems = [];
  const say = (wrong, what) => wrong && problems.push(what);
  say(!GUID.test(one.id), `id ${one.id}`);
  say(!one.name || one.name.length > 256, "name is empty or longer than 256");
  say(!one.description || one.description.length > 5000, "description is empty or longer than 5000");
  say(!one.query || one.query.length > 10_000, "query is empty or longer than 10,000");
  say(!/^\d+\.\d+\.\d+$/.test(one.version), `version ${one.version}`);
  say(/[^\x00-\x7f]/.test(JSON.stringify(one)), "holds more than ASCII");
  say(!one.tactics?.length, "no tactics");
  for (const name of one.tactics ?? []) say(!FORMAT.tactics.includes(name), `tactic ${name}`);
  for (const name of one.relevantTechniques ?? []) {
    const of = FORMAT.techniques[name.split(".")[0]] ?? [];
    say(!of.some((tactic) => one.tactics?.includes(tactic)), `technique ${name} belongs to none of ${one.tactics}`);
  }
  const { columns } = analyse(one.query ?? "", workspace);
  const mappings = one.entityMappings ?? [];
  say(!mappings.length || mappings.length > 5, `${mappings.length} entities`);
  for (const { entityType, fieldMappings } of mappings) {
    say(fieldMappings.length > 3, `${entityType} has more than three fields`);
    for (const { identifier, columnName } of fieldMappings) {
      say(!FORMAT.entities[entityType]?.includes(identifier), `${entityType} has no ${identifier}`);
      say(!(columnName in columns), `${entityType}: no column ${columnName}`);
    }
  }
  return problems;
}

function minutes(text) {
  const [, number, unit] = /^(\d+)([mhd])$/.exec(text) ?? [];
  return number * MINUTES[unit];
}

// What Content Hub knows: .script/SolutionValidations of Azure-Sentinel.
const DOMAINS = ["Application", "Cloud Provider", "Compliance", "DevOps", "Identity", "Internet of Things (IoT)", "IT Operations", "Migration", "Networking", "Platform",
  "Storage", "Training and Tutorials", "User Behavior (UEBA)",
  ...["Others", "Threat Intelligence", "Threat Protection", "0-day Vulnerability", "Automation (SOAR)", "Cloud Security", "Information Protection", "Insider Threat", "Network", "Vulnerability Management"].map((one) => `Security - ${one}`)];
const VERTICALS = ["Aeronautics", "Education", "Finance", "Healthcare", "Manufacturing", "Retail"];
const filled = (text) => typeof text === "string" && text.trim() !== "";

/** A solution and its metadata are what Content Hub takes. */
export function solution({ solution: { Name, Version }, metadata: { publisherId, offerId, categories, support } }) {
  const problems = [];
  const say = (wrong, what) => wrong && problems.push(what);
  const id = `${publisherId}.${offerId}`;
  say(!/^[a-z0-9-]+\.[a-z0-9-]+$/.test(id), `the solution's id ${id} is not publisher.offer in small letters`);
  say(!/^\d+\.\d+\.\d+$/.test(Version) || Number(Version.split(".")[0]) < 3, `version ${Version} is not 3.0.0 or above`);
  say(!filled(Name), "the solution has no name");
  say(!categories.domains?.length, "no domain");
  for (const domain of categories.domains ?? []) say(!DOMAINS.includes(domain), `domain ${domain}`);
  for (const vertical of categories.verticals ?? []) say(!VERTICALS.includes(vertical), `vertical ${vertical}`);
  say(!filled(support.name), "support has no name");
  say(!filled(support.email) && !filled(support.link), "support has neither email nor link");
  say(filled(support.email) && !/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(support.email), `support's email ${support.email}`);
  say(filled(support.link) && !/^https?:\/\/\S+$/.test(support.link), `support's link ${support.link}`);
  return problems;
}

/** The product is called Microsoft Sentinel, wherever it is named. */
export const branding = (text) => [...text.matchAll(/(?<!Microsoft\s)(?<!-)\bSentinel\b/g)].map(({ index }) => `"${text.slice(Math.max(0, index - 20), index + 30)}" is not Microsoft Sentinel`);

const PARTS = {
  graphQueries: ["metricName", "legend", "baseQuery"],
  sampleQueries: ["description", "query"],
  dataTypes: ["name", "lastDataReceivedQuery"],
};
const PROVIDER = ["provider", "permissionsDisplayText", "providerDisplayName", "scope"];

/** What the schema of connector pages asks of their parts: Azure_Function_ConnectorSchema.json of Azure-Sentinel. */
export function page(one) {
  const problems = [];
  const say = (wrong, what) => wrong && problems.push(what);
  say(/\s/.test(one.id), "the id has spaces");
  for (const [list, members] of Object.entries(PARTS)) {
    for (const part of one[list]) for (const member of members) say(!filled(part[member]), `${list}: no ${member}`);
  }
  for (const { name } of one.dataTypes) say(/\s/.test(name), `the data type ${name} has spaces`);
  for (const { value } of one.connectivityCriterias) say(!Array.isArray(value) || !value.every(filled), "a criterion without queries");
  say(!Number.isInteger(one.availability.status) || typeof one.availability.isPreview !== "boolean", "availability says not both");
  for (const given of one.permissions.resourceProvider) {
    for (const member of PROVIDER) say(!filled(given[member]), `a provider has no ${member}`);
    for (const right of ["read", "write", "delete"]) say(typeof given.requiredPermissions?.[right] !== "boolean", `a provider does not say ${right}`);
  }
  for (const { name, description } of one.permissions.customs) say(!filled(name) || !filled(description), "a custom permission says nothing");
  return problems;
}

const BOOK = ["workbookKey", "logoFileName", "description", "dataTypesDependencies", "dataConnectorsDependencies", "previewImagesFileNames", "version", "title", "templateRelativePath", "subtitle", "provider"];

/** An entry of the workbooks' list has all that is asked for, and nothing else: workbooksMetadataSchema.json. */
export function book(one) {
  const problems = BOOK.filter((name) => !(name in one)).map((name) => `${name} is missing`);
  for (const name of Object.keys(one)) if (!BOOK.includes(name)) problems.push(`${name} is not known`);
  for (const list of ["dataTypesDependencies", "dataConnectorsDependencies"]) if (!one[list]?.every(filled)) problems.push(`${list} has an empty name`);
  return problems;
}

/** What the list of playbooks shows of one. */
export function shelf({ metadata: { title, description, lastUpdateTime, support, author } }) {
  const problems = [];
  const asked = { title, description, lastUpdateTime, "support/tier": support?.tier, "author/name": author?.name };
  for (const [name, value] of Object.entries(asked)) if (!filled(value)) problems.push(`${name} is missing`);
  if (Number.isNaN(Date.parse(lastUpdateTime))) problems.push(`${lastUpdateTime} is no time`);
  return problems;
}
