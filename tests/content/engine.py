"""The content's KQL, run: DuckDB over the rows of a demo or of a scenario, by way of duckdb-kql.

What the engine lacks has a stand-in here, with the reason; what has none is not run.
"""

import contextlib
import datetime
import functools
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import tempfile

import duckdb_kql
import yaml
from duckdb_kql.translate import functions

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTENT = ROOT / "sentinel"

KINDS = {
    "string": "VARCHAR",
    "int": "INTEGER",
    "boolean": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "dynamic": "JSON",
}

PLACE = '{"country": "Somewhere", "city": "Here", "latitude": 1.5, "longitude": -2.5}'

# What time it is in scenarios, whatever the clock says.
NOW = datetime.datetime(2026, 11, 21, 12, 0)

# What the engine can't do, what is run in its place, and how far that is the same.
STAND_INS = [
    (r"has_any_ipv4_prefix\((\w+), (\w+)\)", r"(\1 has_any (\2))", "for whole octets both find the same"),
    (r"HHmmssfffffff", "HHmmssffffff", "its times have six digits, those of Kusto seven"),
    (r"\bingestion_time\(\)", "TimeGenerated", "rows are stamped when they are sent"),
    (r"geo_info_from_ip_address\(\w+\)", f"dynamic({PLACE})", "every address is in one place: where it is, is not tested"),
]

# What the engine lacks and DuckDB has, by the same meaning.
LENT = {
    "url_decode": ("url_decode({0})", 1),
    "set_union": ("to_json(list_distinct(list_concat(CAST(to_json({0}) AS JSON[]), CAST(to_json({1}) AS JSON[]))))", 2),
    # The first of two members counts.
    "bag_merge": ("json_merge_patch(to_json({1}), to_json({0}))", 2),
}
for lent, (template, arity) in LENT.items():
    functions.SCALAR_FUNCTIONS[lent] = functions.FunctionSpec(lent, "template", template, (arity,), (), "")

SPAN = re.compile(r"^-(\d+)(s|m|h|d)$")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "debug/sentinel-connector"


def program(*arguments, ends=0, **options):
    """What the connector's command line prints; `ends` is its exit code."""
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, **options)
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stdout


@functools.cache
def schema():
    return json.loads(program("schema"))


def documents(folder):
    """The YAML files of a folder of the content, by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONTENT / folder).glob("*.yaml"))}


def alert(app="connector-abc", functions=("EsetTimer", "DefenderTimer"), seconds="300"):
    """The alert *is silent* of azuredeploy.json, as a query with its period: filled in as the template does it."""
    template = json.loads((ROOT / "azuredeploy.json").read_text())
    filled = {"{app}": app, "{functions}": ", ".join(f'"{one}"' for one in functions), "{seconds}": seconds}
    text = template["variables"]["silent"]
    for name, value in filled.items():
        assert name in text, name
        text = text.replace(name, value)
    return {"query": text, "queryPeriod": "2d"}


@functools.cache
def create_functions():
    """Makes the parsers known, as `.create function` would: once, for every workspace."""
    found = []
    for parser in documents("parsers").values():
        if "ParserName" in parser:
            given = (f"{one['Name']}:{one['Type']}={one['Default']}" for one in parser["ParserParams"])
            name, parameters, text = parser["ParserName"], ", ".join(given), parser["ParserQuery"]
        else:
            name, text = parser["FunctionName"], parser["FunctionQuery"]
            parameters = parser.get("FunctionParameters", "")
        found.append(f"function {name}({parameters}) {{\n{runnable(text)}\n}}")
    duckdb_kql.set_functions(found)


def runnable(text):
    for lacking, instead, _ in STAND_INS:
        text = re.sub(lacking, instead, text)
    # A comment would hide the rest of a line that was joined.
    return re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


class Workspace:
    """Tables with the columns of `schema`, the parsers, and rows."""

    def __init__(self, rows, now=NOW):
        """`rows`: by table, dictionaries of columns. `now`: what time it is for queries and spans."""
        self.now = now
        self.connection = duckdb_kql.connect()
        create_functions()
        for table, columns in schema().items():
            kinds = {column["name"]: column["type"] for column in columns}
            types = {name: KINDS[kind] for name, kind in kinds.items()}
            given = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
            self.connection.execute(f'CREATE TABLE "{table}" ({given}, "_BilledSize" DOUBLE)')
            if rows.get(table):
                self._fill(table, kinds, types, rows[table])

    def _fill(self, table, kinds, types, rows):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            for row in rows:
                unknown = row.keys() - kinds.keys()
                assert not unknown, f"{table} has no {unknown}"
                cells = {name: cell(kinds[name], row.get(name), self.now) for name in kinds}
                file.write(json.dumps(cells) + "\n")
            file.flush()
            read = f"read_json('{file.name}', format='newline_delimited', columns={types})"
            self.connection.execute(f'INSERT INTO "{table}" SELECT *, length(to_json(r)) FROM {read} AS r')

    def run(self, text):
        """The result of a query, as dictionaries."""
        answer = duckdb_kql.execute(self.connection, runnable(text), query_now=self.now)
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row)) for row in answer.fetchall()]


def cell(kind, value, now):
    """A value as the engine takes it; times may be spans before now, such as `-5m`."""
    if kind == "string":
        # Log Analytics knows no null strings.
        return "" if value is None else str(moment(value, now))
    if value is None:
        return None
    if kind == "datetime":
        return moment(value, now).replace("Z", "")[:26]
    return value


def moment(value, now):
    found = SPAN.match(value) if isinstance(value, str) else None
    if not found:
        return value
    span = datetime.timedelta(**{UNITS[found[2]]: int(found[1])})
    return (now - span).isoformat(timespec="microseconds") + "Z"


@functools.cache
def demo():
    """The rows that a demo writes, by table."""
    with tempfile.TemporaryDirectory() as folder:
        program("demo", cwd=folder, env={"CONNECTOR_DATA": folder})
        return embedded(pathlib.Path(folder) / "connector.sqlite")


@functools.cache
def simulated(*options, function="DefenderTimer", age=0, ends=0, **settings):
    """The rows of one run of a function over a simulated company that began `age` days ago, with options and
    settings of one's own. An empty setting is none.
    """
    with tempfile.TemporaryDirectory() as folder, simulator(folder, options, age) as environment:
        environment |= {"CONNECTOR_DATA": f"{folder}/data", "SINK": "embedded", "STORAGE": "embedded"}
        program("run", function, "--once", ends=ends, cwd=folder, env=environment | settings)
        return embedded(pathlib.Path(folder) / "data/connector.sqlite")


@contextlib.contextmanager
def simulator(folder, options, age):
    """The simulated services, as settings that point at them."""
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=age)
    (pathlib.Path(folder) / "world.json").write_text(json.dumps({"seed": 2026, "start": start.isoformat()}))
    command = [BINARY, "simulate", "--listen", "127.0.0.1:0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env={"CONNECTOR_DATA": folder}, text=True, **pipes) as served:
        try:
            settings = {}
            while "EXTRA_CA_FILE" not in settings:
                name, equals, value = served.stdout.readline().rstrip("\n").partition("=")
                assert equals, "the simulator has ended"
                settings[name] = value
            # The sink is a file, and no platform hands out identities.
            unused = ("LOGS_", "DCR_", "IDENTITY_")
            yield {name: value for name, value in settings.items() if not name.startswith(unused)}
        finally:
            served.terminate()


def embedded(file):
    """The rows of an embedded workspace, by table."""
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [
                {column["name"]: member(column["type"], row[column["name"]]) for column in columns}
                for row in connection.execute(f'SELECT * FROM "{table}"')
            ]
            for table, columns in schema().items()
        }


def member(kind, value):
    if kind != "dynamic" or value is None:
        return value
    # The embedded tables keep a dynamic text as it is.
    return json.loads(value) if value[:1] in '{["' else value
