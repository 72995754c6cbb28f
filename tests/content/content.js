// What lies under sentinel/, read; and every KQL text in it, by where it stands.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import YAML from "yaml";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const CONTENT = path.join(ROOT, "sentinel");

export const read = (name) => fs.readFileSync(path.join(ROOT, name), "utf8");
export const readJson = (name) => JSON.parse(read(name));

/** The tables, as the program of this commit prints them. */
export function tables() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
  return JSON.parse(execFileSync(path.join(target, "debug/sentinel-connector"), ["schema"], { encoding: "utf8" }));
}

/** The YAML files of a folder, by file name. */
export function documents(folder) {
  const files = fs.readdirSync(path.join(CONTENT, folder)).filter((file) => file.endsWith(".yaml"));
  return Object.fromEntries(files.sort().map((file) => [file.replace(".yaml", ""), YAML.parse(read(`sentinel/${folder}/${file}`))]));
}

/** A parser of either form, as a function. */
export function parser(document) {
  if (document.ParserName) {
    const given = document.ParserParams.map(({ Name, Type, Default }) => `${Name}:${Type}=${Default}`);
    return { name: document.ParserName, parameters: given.join(", "), query: document.ParserQuery };
  }
  const { FunctionName: name, FunctionParameters: parameters = "", FunctionQuery: query } = document;
  return { name, parameters, query };
}

export const parsers = () => Object.values(documents("parsers")).map(parser);
export const connector = () => readJson("sentinel/data-connectors/SentinelConnector.json");
export const workbook = () => readJson("sentinel/workbooks/SentinelConnector.json");
export const playbook = () => readJson("sentinel/playbooks/CommentOnIncident/azuredeploy.json");

/** `[where, text]` of every query but those of the parsers. */
export function queries() {
  return [
    ...Object.entries(documents("analytic-rules")).map(([name, rule]) => [`rule ${name}`, rule.query]),
    ...Object.entries(documents("hunting")).map(([name, hunt]) => [`hunting ${name}`, hunt.query]),
    ...connectorQueries(connector()),
    ...workbookQueries(workbook()),
    ...playbookQueries(playbook()),
    ["alert silent", silentQuery(readJson("azuredeploy.json"))],
    ...pages().flatMap((page) => blocks(read(page)).map((text, at) => [`page ${page} block ${at + 1}`, text])),
  ];
}

export function connectorQueries(definition) {
  return [
    ...definition.graphQueries.map((one) => [`connector graph ${one.legend}`, one.baseQuery]),
    ...definition.sampleQueries.map((one) => [`connector sample ${one.description}`, one.query]),
    ...definition.dataTypes.map((one) => [`connector data type ${one.name}`, one.lastDataReceivedQuery]),
    ...definition.connectivityCriterias.flatMap((one) => one.value.map((text) => ["connector connectivity", text])),
  ];
}

/** The queries of a workbook, with a value in place of each parameter. */
export function workbookQueries(book) {
  const items = flat(book.items);
  const values = { "TimeRange:grain": "1h" };
  for (const { name, value } of items.flatMap((item) => item.content.parameters ?? [])) values[name] = value;
  const fill = (text) => text.replace(/\{([\w:]+)\}/g, (whole, name) => values[name] ?? whole);
  return items.filter((item) => item.content.query).map((item) => [`workbook ${item.name}`, fill(item.content.query)]);
}

const flat = (items) => items.flatMap((item) => (item.type === 12 ? flat(item.content.items) : [item]));

/** The query that the playbook sends, with an address in place of what it fills in. */
export function playbookQueries(template) {
  const texts = [...JSON.stringify(template).matchAll(/"query":"((?:[^"\\]|\\.)*)"/g)].map(([, text]) => JSON.parse(`"${text}"`));
  return texts.map((text) => ["playbook", text.replace(/@\{[^}]*\}/g, "10.1.2.3")]);
}

/** The query of the alert that the deployment makes, filled in as its template does it. */
export function silentQuery({ variables: { silent } }) {
  return silent.replaceAll("{app}", "connector-abc").replaceAll("{functions}", '"EsetTimer"').replaceAll("{seconds}", "300");
}

/** README.md and the pages of docs/. */
export function pages() {
  const folder = fs.readdirSync(path.join(ROOT, "docs"), { recursive: true });
  const found = folder.filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
  return ["README.md", ...found.sort()];
}

/** The KQL blocks of a Markdown text. */
export function blocks(text) {
  return [...text.matchAll(/^```(?:kql|kusto)\n([\s\S]*?)^```/gm)].map(([, block]) => block);
}
