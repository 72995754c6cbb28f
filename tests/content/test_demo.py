"""Everything that runs, over the rows that a demo writes; what it has to find is worked out in Python."""

import collections
import datetime
import json
import pathlib
import re
import tempfile
import unittest

import duckdb_kql

import engine

ASIM = json.loads((pathlib.Path(__file__).parent / "asim_alert_event.json").read_text())
RULES, HUNTING = engine.documents("analytic-rules"), engine.documents("hunting")

# What the engine lacks: a query with one of these is only parsed.
LACKING = ("geo_info_from_ip_address", "ingestion_time")


def setUpModule():
    global ROWS, WORKSPACE, DETECTIONS
    with tempfile.TemporaryDirectory() as folder:
        engine.program("demo", cwd=folder, env={"CONNECTOR_DATA": folder})
        ROWS = engine.embedded(pathlib.Path(folder) / "connector.sqlite")
    # The rows of Defender have scenarios of their own.
    for table, rows in ROWS.items():
        ROWS[table] = [row for row in rows if row["streamName"].startswith(("eset.", "connector."))]
    WORKSPACE = engine.Workspace(ROWS, datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None))
    latest = {row["recordId"]: row for row in ROWS["IntegrationTable_CL"] if row["streamName"].startswith("eset.")}
    DETECTIONS = list(latest.values())


def found(name, column):
    query = (RULES | HUNTING)[name]["query"]
    return sorted(row[column] for row in WORKSPACE.run(query))


def several(key, value, least, rows):
    """The keys that come with `least` different values."""
    values = collections.defaultdict(set)
    for row in rows:
        if key(row) and value(row):
            values[key(row)].add(value(row))
    return sorted(one for one, all_of in values.items() if len(all_of) >= least)


def severity(row):
    level = (row["severityLevel"] or "").rpartition("_")[2]
    if level in ("HIGH", "MEDIUM", "LOW"):
        return level.title()
    if level in ("INFORMATIONAL", "DIAGNOSTIC"):
        return "Informational"
    score = int(row["severityScore"] or 0)
    return "High" if score >= 60 else "Medium" if score >= 50 else "Low" if score >= 1 else "Informational"


def action(row):
    details = (row["additionalFields"] or {}).get("@details") or {}
    answers = (row["responses"] or []) + (details.get("responses") or [])
    said = {str(one.get(key) or "").lower() for one in answers for key in ("displayName", "actionType")}
    if any(word in text for text in said for word in ("clean", "delet", "quarantin")):
        return "Cleaned"
    return "Blocked" if any("terminat" in text for text in said) else "None"


def day(row):
    return datetime.datetime.fromisoformat(row["eventTime"][:19])


class Demo(unittest.TestCase):
    def test_each_detection_is_there_once_and_reads_as_its_row_does(self):
        expected = collections.Counter((severity(row), action(row), bool(row["resolved"])) for row in DETECTIONS)
        rows = WORKSPACE.run("IntegrationDetections() | summarize n = count() by Severity, Action, resolved")
        self.assertEqual({(row["Severity"], row["Action"], row["resolved"]): row["n"] for row in rows}, expected)
        self.assertGreater(len(expected), 9)

    def test_each_incident_is_there_once(self):
        ids = {row["uuid"] for row in ROWS["IntegrationTableIncidents_CL"]}
        rows = WORKSPACE.run("IntegrationIncidents | project IncidentId, IncidentStatus")
        self.assertEqual({row["IncidentId"] for row in rows}, ids)
        self.assertEqual(len(rows), len(ids))
        self.assertEqual({row["IncidentStatus"] for row in rows}, {"New", "Active", "Closed"})

    def test_what_was_not_cleaned_is_found(self):
        weak = ("VULNERABILITY", "APPLICATION_PATCH")
        expected = sorted(
            row["recordId"] for row in DETECTIONS
            if severity(row) == "High" and action(row) == "None" and not row["resolved"]
            and not (row["category"] or "").endswith(weak)
        )
        self.assertTrue(expected)
        self.assertEqual(found("HighSeverityNotCleaned", "DetectionId"), expected)

    def test_what_is_on_many_devices_is_found(self):
        apart = ("VULNERABILITY", "APPLICATION_PATCH", "FIREWALL_RULE")
        rows = [row for row in DETECTIONS if not (row["category"] or "").endswith(apart)]
        expected = several(lambda row: row["displayName"], lambda row: row["deviceUuid"], 5, rows)
        self.assertTrue(expected)
        self.assertEqual(found("SameThreatOnManyDevices", "Name"), expected)

    def test_incidents_that_were_opened_again_are_found(self):
        versions = collections.defaultdict(list)
        for row in ROWS["IntegrationTableIncidents_CL"]:
            versions[row["uuid"]].append((row["updateTime"], row["status"] == "INCIDENT_STATUS_CLOSED"))
        expected = [
            uuid for uuid, all_of in versions.items()
            if not max(all_of)[1] and any(closed for _, closed in all_of)
        ]
        self.assertEqual(found("IncidentReopened", "IncidentId"), sorted(expected))

    def test_a_connector_that_is_well_raises_nothing(self):
        for name in ("ConnectorSilent", "SecretExpires", "RowsRejected", "GapInStream"):
            self.assertEqual(found(name, "Stream" if name != "SecretExpires" else "Connection"), [], name)

    def test_hunting_finds_what_there_is(self):
        first = {}
        for row in DETECTIONS:
            if row["displayName"]:
                first[row["displayName"]] = min(day(row), first.get(row["displayName"], day(row)))
        yesterday = WORKSPACE.now - datetime.timedelta(days=1)
        self.assertEqual(found("NewThreats", "Name"), sorted(name for name, at in first.items() if at > yesterday))

        def user(row):
            name = row["userNameBase"] or ""
            return "" if name.startswith("NT AUTHORITY") else name.rpartition("\\")[2].lower()

        expected = several(user, lambda row: row["deviceUuid"], 3, DETECTIONS)
        self.assertEqual(found("UserOnManyDevices", "AccountName"), expected)

        def remote(row):
            return (row["networkCommunication"] or {}).get("remoteIpAddress")

        expected = several(remote, lambda row: row["deviceUuid"], 2, DETECTIONS)
        self.assertEqual(found("RemoteAddressOfMany", "RemoteAddress"), expected)

        encoded = re.compile(r"(?i)\s-e(nc|ncodedcommand|c)?\s+[a-z0-9+/=]{20,}")
        expected = sorted(
            row["recordId"] for row in DETECTIONS
            if row["processCommandline"] and (encoded.search(row["processCommandline"]) or len(row["processCommandline"]) > 2000)
        )
        self.assertTrue(expected)
        self.assertEqual(found("EncodedCommands", "DetectionId"), expected)

    def test_asim_values_are_those_of_the_schema(self):
        rows = WORKSPACE.run("ASimAlertEventESETProtect()")
        self.assertEqual(len(rows), len(DETECTIONS))
        self.assertEqual(strange(rows), [])
        for name in [*ASIM["mandatory"], "EventSeverity", "EventSubType", "IndicatorType", "ThreatCategory"]:
            self.assertTrue(all(row[name] not in (None, "") for row in rows), name)
        self.assertTrue(strange([rows[0] | {"EventSeverity": "Critical"}]))

    def test_every_query_runs_but_for_what_the_engine_lacks(self):
        not_run = set()
        for name, text in texts():
            with self.subTest(name):
                lacking = [one for one in LACKING if one in text]
                if lacking:
                    not_run.update(lacking)
                    with self.assertRaises(duckdb_kql.KqlUnsupportedError):
                        WORKSPACE.run(text)
                else:
                    WORKSPACE.run(text)
        self.assertEqual(not_run, set(LACKING))


def strange(rows):
    """Values that a field of the schema may not have. An empty text is no value."""
    return [
        (name, row[name]) for row in rows for name, allowed in ASIM["values"].items()
        if row.get(name) and row[name] not in allowed
    ]


def texts():
    """Every query, by where it stands."""
    for name, one in (RULES | HUNTING).items():
        yield name, one["query"]
    yield from of_workbook(document("workbooks/SentinelConnector.json")["items"])
    page = document("data-connectors/SentinelConnector.json")
    for sample in page["sampleQueries"]:
        yield sample["description"], sample["query"]
    for graph in page["graphQueries"]:
        yield graph["legend"], graph["baseQuery"]
    for kind in page["dataTypes"]:
        yield kind["name"], kind["lastDataReceivedQuery"]
    readme = (engine.ROOT / "README.md").read_text()
    for at, text in enumerate(re.findall(r"^```(?:kql|kusto)\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)):
        yield f"README block {at + 1}", text


def document(path):
    return json.loads((engine.CONTENT / path).read_text())


def of_workbook(items):
    for item in items:
        content = item["content"]
        if "query" in content:
            text = content["query"].replace("{TimeRange:grain}", "1h").replace("{PricePerGigabyte}", "5.0")
            yield item["name"], text.replace("{Address}", "10.1.2.3")
        yield from of_workbook(content.get("items", []))


if __name__ == "__main__":
    unittest.main()
