// Microsoft's own KQL parser, over the tables of `sentinel-connector schema` and the parsers of
// sentinel/parsers.
import "@kusto/language-service-next/bridge.min.js";
import "@kusto/language-service-next/Kusto.Language.Bridge.min.js";

const { KustoCode, GlobalState, Symbols } = globalThis.Kusto.Language;

// Columns that Log Analytics adds to every table.
const STANDARD = { TenantId: "string", Type: "string", _ResourceId: "string", _BilledSize: "real", _IsBillable: "string" };

// The types of `schema`, as KQL spells them.
const TYPES = { boolean: "bool" };

/** What KQL texts are analysed against: tables, then functions, whose order does not matter. */
export function workspace(tables, functions) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const all = [...columns.map(({ name, type }) => [name, TYPES[type] ?? type]), ...Object.entries(STANDARD)];
    const schema = all.map(([column, type]) => `['${column}']: ${type}`).join(", ");
    return Symbols.TableSymbol.From(`(${schema})`).WithName(name);
  });
  for (const { name, parameters, query } of functions) {
    symbols.push(new Symbols.FunctionSymbol.$ctor16(name, `(${parameters})`, `{ ${query}\n }`));
  }
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("workspace", symbols));
}

/** What the parser says of a text: its errors, and the columns of its result as `{name: type}`. */
export function analyse(text, globals) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  const found = list(code.GetDiagnostics()).filter((one) => one.Severity === "Error");
  const errors = found.map((one) => `${place(text, one.Start)} ${one.Code} ${one.Message}`);
  const result = code.ResultType;
  const columns = result?.Columns ? list(result.Columns) : [];
  return { errors, columns: Object.fromEntries(columns.map((column) => [column.Name, column.Type.Name])) };
}

/** A parser as one text that stands for itself: its parameters as constants before its body. */
export function body({ parameters, query }) {
  const constants = parameters.split(",").filter((one) => one.trim()).map((one) => {
    const [, name, type] = one.match(/^\s*(\w+)\s*:\s*(\w+)/);
    return `let ${name} = ${type === "string" ? '""' : type === "dynamic" ? "dynamic([])" : `${type}(null)`};`;
  });
  return `${constants.join(" ")}\n${query}`;
}

function list(found) {
  return Array.from({ length: found.Count }, (_, at) => found.getItem(at));
}

function place(text, offset) {
  const before = text.slice(0, offset).split("\n");
  return `${before.length}:${before.at(-1).length + 1}`;
}
