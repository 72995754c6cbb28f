"""Rules and hunting queries, run over rows that make them fire and rows that must not."""

import datetime
import unittest

import yaml

import engine
import scene
from engine import ROOT, UNITS, Workspace, documents

QUERIES = {**documents("analytic-rules"), **documents("hunting"), "AppSilent": engine.alert()}
SCENARIOS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "tests/content/scenarios").glob("*.yaml")}


def result(query, rows):
    """What the query finds, as Sentinel would run it: over the rows of its own period."""
    period = query.get("queryPeriod", "14d")
    made = {table: [scene.made(row) for row in given] for table, given in rows.items()}
    kept = {table: [row for row in given if age(row) <= span(period)] for table, given in made.items()}
    return Workspace(kept).run(query["query"])


def age(row):
    return span(row["TimeGenerated"].removeprefix("-"))


def span(text):
    return datetime.timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def cases(kind):
    for name, scenario in sorted(SCENARIOS.items()):
        for case, given in scenario[kind].items():
            yield name, case, given


def members(stream, row):
    """Where the dynamic columns of a row have values."""
    def walk(value, *path):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, *path, name)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, *path, "[]")
        else:
            yield (stream, *path)

    return {path for column, value in row.items() if isinstance(value, (dict, list)) for path in walk(value, column)}


def matches(found, expected):
    """Each expected row is found, with the values that it names, and no other row."""
    return len(found) == len(expected) and all(
        any(all(row[column] == value for column, value in one.items()) for row in found) for one in expected
    )


class Scenarios(unittest.TestCase):
    def test_every_query_has_a_scenario_of_both_kinds(self):
        self.assertEqual(sorted(SCENARIOS), sorted(QUERIES))
        for name, scenario in SCENARIOS.items():
            self.assertTrue(scenario["fires"] and scenario["silent"], name)

    def test_who_looks_at_detections_alone_says_that_processes_are_not_looked_at(self):
        found = {name: (QUERIES[name]["query"], QUERIES[name]["description"]) for name in ("EncodedCommands", "UserOnManyDevices")}
        parser = documents("parsers")["IntegrationDetections"]
        found["IntegrationDetections"] = (parser["FunctionQuery"], parser["Description"])
        for name, (query, text) in found.items():
            with self.subTest(name):
                looks = "DeviceProcessEvents" in query
                says = "DeviceProcessEvents" in text and "not looked at" in " ".join(text.split())
                self.assertNotEqual(looks, says)

    def test_rows_say_nothing_that_the_connector_does_not_write(self):
        known = set()
        for row in (row for tables in (engine.demo(), scene.ill()) for rows in tables.values() for row in rows):
            known.update(members(row["streamName"], row))
        for name, _, given in [*cases("fires"), *cases("silent")]:
            for row in (row for rows in given["rows"].values() for row in rows if row.get("streamName")):
                self.assertLessEqual(members(row["streamName"], row), known, name)
        self.assertNotIn(("eset.detections", "responses", "[]", "displayNames"), known)

    def test_it_fires_where_it_has_to(self):
        for name, case, given in cases("fires"):
            with self.subTest(query=name, case=case):
                found = result(QUERIES[name], given["rows"])
                self.assertTrue(matches(found, given["expect"]), found)

    def test_it_is_silent_where_it_has_to_be(self):
        for name, case, given in cases("silent"):
            with self.subTest(query=name, case=case):
                self.assertEqual(result(QUERIES[name], given["rows"]), [])

    def test_a_query_that_never_fires_is_found_out(self):
        for name, case, given in cases("fires"):
            never = {**QUERIES[name], "query": QUERIES[name]["query"] + "\n| where false"}
            self.assertFalse(matches(result(never, given["rows"]), given["expect"]), f"{name}: {case}")
            break

    def test_a_query_that_always_fires_is_found_out(self):
        name, _, given = next(cases("silent"))
        always = {**QUERIES[name], "query": "IntegrationTable_CL"}
        self.assertNotEqual(result(always, given["rows"]), [])


if __name__ == "__main__":
    unittest.main()
