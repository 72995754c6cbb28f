"""Everything that runs, over the rows that a demo writes; what it has to find is worked out from them in Python."""

import collections
import datetime
import functools
import json
import pathlib
import re
import unittest

import duckdb_kql

import engine
import scene

ASIM = json.loads((pathlib.Path(__file__).parent / "asim_alert_event.json").read_text())
RULES, HUNTING = engine.documents("analytic-rules"), engine.documents("hunting")


def setUpModule():
    global ROWS, STREAMS, WORKSPACE, DETECTIONS
    ROWS = engine.demo()
    STREAMS = scene.by_stream(ROWS)
    WORKSPACE = engine.Workspace(ROWS, datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None))
    eset = STREAMS["eset.detections"] + STREAMS["eset.cloud-office"]
    latest = {row["recordId"]: row for row in eset}
    alerts = sorted(STREAMS["defender.alerts"], key=lambda row: moment(row["eventTime"]))
    latest |= {row["recordId"]: row for row in alerts}
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
    level = (row["severityLevel"] or "").rpartition("_")[2].upper()
    if level in ("HIGH", "MEDIUM", "LOW"):
        return level.title()
    if level in ("INFORMATIONAL", "DIAGNOSTIC"):
        return "Informational"
    score = int(row["severityScore"] or 0)
    return "High" if score >= 60 else "Medium" if score >= 50 else "Low" if score >= 1 else "Informational"


def name(row):
    """What a detection is called: simulated circumstances are sentences, which count last."""
    details = (row["additionalFields"] or {}).get("@details") or {}
    told = (row["context"] or {}).get("circumstances") or details.get("circumstances")
    return row["displayName"] or (row["typeName"] if row["typeName"] != "nil" else "") or told or ""


def action(row):
    if defender(row):
        return of_evidence(row)
    details = (row["additionalFields"] or {}).get("@details") or {}
    answers = (row["responses"] or []) + (details.get("responses") or [])
    said = {str(one.get(key) or "").lower() for one in answers for key in ("displayName", "actionType")}
    if not any(text and not text.endswith("unspecified") for text in said):
        return "NA"
    if any(word in text for text in said for word in ("clean", "delet", "quarantin")):
        return "Cleaned"
    return "Blocked" if any("terminat" in text for text in said) else "None"


def of_evidence(row):
    """Of an alert its evidence tells what was done."""
    said = {str(one.get(key) or "").lower() for one in evidence(row) for key in ("remediationStatus", "detectionStatus")}
    said -= {"", "none", "unknown", "unknownfuturevalue", "notfound"}
    if not said:
        return "NA"
    if said & {"active", "unremediated", "partiallyremediated", "declined", "pendingapproval", "running"}:
        return "None"
    return "Cleaned" if "remediated" in said else "Blocked" if said & {"prevented", "blocked", "terminated"} else "None"


def moment(text):
    """A time, as fine as the engine's. Its digits vary: as texts, those of one second have no order."""
    return datetime.datetime.fromisoformat(text.removesuffix("Z"))


def happened(row):
    """An alert's own time is that of its last update."""
    return moment(row["occurTime"] if defender(row) else row["eventTime"])


def defender(row):
    return row["streamName"].startswith("defender.")


def evidence(row):
    return (row["context"] or {}).get("evidence") or [] if defender(row) else []


def told(row, kind, *path):
    """What the first evidence of a kind says."""
    for one in evidence(row):
        if one["@odata.type"].endswith(f".{kind}"):
            return functools.reduce(lambda found, name: (found or {}).get(name), path, one) or ""
    return ""


def device(row):
    return told(row, "deviceEvidence", "mdeDeviceId") if defender(row) else row["deviceUuid"]


def user(row):
    name = told(row, "userEvidence", "userAccount", "userPrincipalName") if defender(row) else row["userNameBase"] or ""
    return "" if name.startswith("NT AUTHORITY") else name.rpartition("\\")[2].partition("@")[0].lower()


LEVELS = ["NoExploit", "ExploitIsPublic", "ExploitIsVerified", "ExploitIsInKit"]


def member(row, name):
    """Of an export: files spell their members with capitals."""
    fields = row["additionalFields"]
    return fields.get(name) or fields.get(name[0].upper() + name[1:]) or ""


def weaknesses():
    """How far each open vulnerability is exploited: by device, CVE, software and its version."""
    catalogue = {}
    for row in STREAMS["defender.vulnerability-catalogue"]:
        known = [row["additionalFields"].get(name) for name in ("publicExploit", "exploitVerified", "exploitInKit")]
        catalogue[row["typeName"]] = max((at + 1 for at, yes in enumerate(known) if yes), default=0)
    found = collections.defaultdict(int)
    for row in STREAMS["defender.vulnerabilities"]:
        cve = row["typeName"]
        if cve.startswith(("CVE-", "TVM-")):
            key = (row["deviceUuid"], cve, row["objectName"], row["additionalFields"]["productVersion"])
            found[key] = catalogue.get(cve, 0)
    last = {}
    for row in STREAMS["defender.software-vulnerabilities"]:
        # Of a baseline and what has changed since, all in one run.
        told = moment(row["eventTime"]) if row["eventTime"] else datetime.datetime.min
        if row["recordId"] not in last or told > last[row["recordId"]][0]:
            last[row["recordId"]] = told, row
    for _, row in last.values():
        if row["typeName"] and not row["resolved"]:
            key = (row["deviceUuid"], row["typeName"], row["objectName"], member(row, "softwareVersion"))
            found[key] = max(found[key], LEVELS.index(member(row, "exploitabilityLevel")))
    return found


class Demo(unittest.TestCase):
    def test_each_detection_is_there_once_and_reads_as_its_row_does(self):
        expected = collections.Counter((severity(row), action(row), bool(row["resolved"])) for row in DETECTIONS)
        rows = WORKSPACE.run("IntegrationDetections() | summarize n = count() by Severity, Action, resolved")
        self.assertEqual({(row["Severity"], row["Action"], row["resolved"]): row["n"] for row in rows}, expected)
        self.assertGreater(len(expected), 9)
        people = collections.Counter((device(row), user(row)) for row in DETECTIONS if defender(row))
        rows = WORKSPACE.run(
            "IntegrationDetections() | where Provider == 'Microsoft Defender'"
            " | extend Account = tolower(tostring(split(UserName, '@')[0])) | summarize n = count() by DeviceId, Account"
        )
        self.assertEqual({(row["DeviceId"], row["Account"]): row["n"] for row in rows}, people)

    def test_an_alert_reads_as_its_evidence_does(self):
        def says(row):
            process = told(row, "processEvidence", "imageFile", "sha1")
            return {
                "DeviceName": told(row, "deviceEvidence", "deviceDnsName"),
                "FileHash": told(row, "fileEvidence", "fileDetails", "sha1") or process,
                "RemoteAddress": told(row, "ipEvidence", "ipAddress"),
                "processCommandline": told(row, "processEvidence", "processCommandLine"),
                "objectUrl": told(row, "urlEvidence", "url"),
            }

        expected = {row["recordId"]: says(row) for row in DETECTIONS if defender(row)}
        rows = WORKSPACE.run("IntegrationDetections() | where Provider == 'Microsoft Defender'")
        found = {row["DetectionId"]: {name: row[name] or "" for name in next(iter(expected.values()))} for row in rows}
        self.assertEqual(found, expected)
        for name in next(iter(expected.values())):
            self.assertTrue(any(one[name] for one in expected.values()), name)

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
            if not defender(row) and severity(row) == "High" and action(row) in ("None", "NA") and not row["resolved"]
            and not (row["category"] or "").endswith(weak)
        )
        self.assertTrue(expected)
        self.assertEqual(found("HighSeverityNotCleaned", "DetectionId"), expected)

    def test_what_is_on_many_devices_is_found(self):
        apart = ("VULNERABILITY", "APPLICATION_PATCH", "FIREWALL_RULE")
        rows = [row for row in DETECTIONS if not defender(row) and not (row["category"] or "").endswith(apart)]
        expected = several(name, lambda row: row["deviceUuid"], 5, rows)
        self.assertTrue(expected)
        self.assertEqual(found("SameThreatOnManyDevices", "Name"), expected)

    def test_incidents_that_were_opened_again_are_found(self):
        versions = collections.defaultdict(list)
        for row in ROWS["IntegrationTableIncidents_CL"]:
            closed = row["status"].lower().endswith(("closed", "resolved", "redirected"))
            versions[row["uuid"]].append((moment(row["updateTime"]), closed))
        expected = [
            uuid for uuid, all_of in versions.items()
            if not max(all_of)[1] and any(closed for _, closed in all_of)
        ]
        self.assertEqual(found("IncidentReopened", "IncidentId"), sorted(expected))

    def test_a_connector_that_is_well_raises_nothing(self):
        for name in ("ConnectorSilent", "SecretExpires", "RowsRejected", "GapInStream"):
            self.assertEqual(found(name, "Stream" if name != "SecretExpires" else "Connection"), [], name)

    def test_each_device_is_there_once_and_reads_as_its_row_does(self):
        names = {
            "DeviceName": "computerDnsName", "RiskScore": "riskScore", "ExposureLevel": "exposureLevel",
            "LastAddress": "lastIpAddress",
        }
        expected = {}
        for row in STREAMS["defender.machines"]:
            record = row["additionalFields"] | {"computerDnsName": row["deviceDisplayName"]}
            expected[row["recordId"]] = [record.get(name) or "" for name in names.values()]
        rows = WORKSPACE.run("IntegrationDevices")
        self.assertEqual({row["DeviceId"]: [row[name] for name in names] for row in rows}, expected)
        self.assertEqual(len(rows), len(expected))

    def test_each_open_vulnerability_is_there_once(self):
        rows = WORKSPACE.run("IntegrationVulnerabilities")
        found = {tuple(row[name] for name in ("DeviceId", "CveId", "Software", "SoftwareVersion")): row["ExploitRank"] for row in rows}
        self.assertEqual(found, weaknesses())
        self.assertEqual(len(rows), len(found))
        self.assertEqual(set(found.values()), {0, 1, 2, 3})
        # Software without a vulnerability, and what is only in the catalogue, stay out.
        self.assertTrue(any(not row["typeName"] for row in STREAMS["defender.software-vulnerabilities"]))

    def test_what_is_behind_an_address_is_found(self):
        devices = {row["recordId"]: row["additionalFields"] for row in STREAMS["defender.machines"]}
        busy = collections.Counter(one for row in DETECTIONS if defender(row) and not row["resolved"] for one in scene.devices(row))
        [(most, alerts)] = busy.most_common(1)
        address = devices[most]["lastIpAddress"]
        having = {
            id for id, fields in devices.items()
            if address in (fields.get("lastIpAddress"), fields.get("lastExternalIpAddress"))
            or any(one["ipAddress"] == address for one in fields.get("ipAddresses") or [])
        }
        found = {row["DeviceId"]: row for row in WORKSPACE.run(f"AssetByAddress('{address}')")}
        self.assertEqual(found.keys(), having)
        open_cves = {cve: rank for (id, cve, *_), rank in sorted(weaknesses().items(), key=lambda one: one[1]) if id == most}
        counts = [found[most][name] for name in ("OpenAlerts", "Vulnerabilities", "ExploitableVulnerabilities")]
        self.assertEqual(counts, [alerts, len(open_cves), sum(rank > 0 for rank in open_cves.values())])

    def test_exposed_machines_with_an_exploited_vulnerability_and_an_open_alert_are_found(self):
        exploited = {key[0] for key, rank in weaknesses().items() if rank >= 2}
        alerts = [row for row in DETECTIONS if defender(row) and not row["resolved"] and severity(row) in ("High", "Medium")]
        alerted = {one for row in alerts for one in scene.devices(row)}
        expected = sorted(
            row["recordId"] for row in STREAMS["defender.machines"]
            if row["additionalFields"].get("exposureLevel") == "High" and row["recordId"] in exploited & alerted
        )
        self.assertTrue(expected)
        self.assertEqual(found("ExposedMachineExploitedCve", "DeviceId"), expected)

    def test_software_to_update_is_found(self):
        having = collections.defaultdict(set)
        for (id, _, software, version), rank in weaknesses().items():
            if rank > 0:
                having[software, version].add(id)
        rows = WORKSPACE.run(HUNTING["ExploitedSoftware"]["query"])
        found = {(row["Software"], row["SoftwareVersion"]): row["Devices"] for row in rows}
        self.assertEqual(found, {key: len(ids) for key, ids in having.items()})

    def test_what_ran_after_it_was_blocked_is_found(self):
        rows = [row for row in DETECTIONS if not defender(row) and row["objectHashSha1"] and row["deviceUuid"]]
        key = lambda row: (row["objectHashSha1"].lower(), row["deviceUuid"])
        blocked = {}
        for row in rows:
            if action(row) not in ("None", "NA"):
                blocked[key(row)] = min(happened(row), blocked.get(key(row), happened(row)))

        def ran(row):
            rules = ("DETECTION_CATEGORY_EDR_RULE", "DETECTION_CATEGORY_CORRELATION_RULE")
            started = ((row["triggeringEvent"] or {}).get("type") or "").endswith("PROCESS_STARTED")
            return (row["objectTypeName"] or "").lower() == "process" or row["category"] in rules or started

        expected = sorted(
            row["recordId"] for row in rows
            if action(row) in ("None", "NA") and ran(row) and key(row) in blocked and happened(row) > blocked[key(row)]
        )
        self.assertEqual(found("BlockedThenExecuted", "DetectionId"), expected)

    def test_hunting_finds_what_there_is(self):
        first = {}
        for row in DETECTIONS:
            if name(row):
                key = (defender(row), name(row))
                first[key] = min(happened(row), first.get(key, happened(row)))
        yesterday = WORKSPACE.now - datetime.timedelta(days=1)
        self.assertEqual(found("NewThreats", "Name"), sorted(name for (_, name), at in first.items() if at > yesterday))

        expected = several(user, device, 3, DETECTIONS)
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
        self.assertEqual(len(rows), sum(not defender(row) for row in DETECTIONS))
        self.assertEqual(strange(rows), [])
        for name in [*ASIM["mandatory"], "EventSeverity", "EventSubType", "IndicatorType", "ThreatCategory"]:
            self.assertTrue(all(row[name] not in (None, "") for row in rows), name)
        self.assertTrue(strange([rows[0] | {"EventSeverity": "Critical"}]))

    def test_every_query_runs_with_stand_ins_for_what_the_engine_lacks(self):
        run = dict(texts())
        for name, text in run.items():
            with self.subTest(name):
                WORKSPACE.run(text)
        print("\nrun by stand-ins:")
        parsers = engine.documents("parsers").values()
        parsers = [parser.get("FunctionQuery") or parser["ParserQuery"] for parser in parsers]
        everything = "\n".join([*run.values(), *parsers])
        for lacking, _, how in engine.STAND_INS:
            self.assertRegex(everything, lacking)
            print(f"  {re.search(lacking, everything)[0]}: {how}")

    def test_what_has_a_stand_in_can_not_be_run_without(self):
        for text in ("print geo_info_from_ip_address('10.1.2.3')", "IntegrationTable_CL | project ingestion_time()"):
            with self.assertRaises(duckdb_kql.KqlUnsupportedError):
                duckdb_kql.execute(WORKSPACE.connection, text)

    def test_the_map_counts_the_devices_and_their_risk(self):
        machines = [row["additionalFields"] for row in STREAMS["defender.machines"]]
        risks = collections.Counter(one.get("riskScore") for one in machines if one.get("lastExternalIpAddress"))
        [row] = WORKSPACE.run(dict(texts())["map of devices by risk"])
        worst = max((["None", "Informational", "Low", "Medium", "High"].index(risk or "None") for risk in risks), default=0)
        found = [row[name] for name in ("Devices", "HighRisk", "Risk", "Country", "Latitude")]
        self.assertEqual(found, [risks.total(), risks["High"], max(worst, 1), "Somewhere", 1.5])


class Ill(unittest.TestCase):
    """The rules about the connector itself, over runs that went wrong."""

    @classmethod
    def setUpClass(cls):
        cls.rows = scene.ill()
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        cls.workspace = engine.Workspace(cls.rows, now)
        cls.later = engine.Workspace(cls.rows, now + datetime.timedelta(hours=1))
        cls.health = [row["additionalFields"] for row in cls.rows["IntegrationTable_CL"] if row["streamName"] == "connector.health"]

    def found(self, name, *columns, later=False):
        rows = (self.later if later else self.workspace).run(RULES[name]["query"])
        return sorted(tuple(row[column] for column in columns) for row in rows)

    def runs(self, wanted):
        runs = [row["run"] for row in self.health]
        return sorted(run["stream"] for run in runs if wanted(run))

    def test_rejected_rows_are_told(self):
        rejected = self.runs(lambda run: run["dead"] > 0)
        self.assertEqual(rejected, ["defender.alerts"])
        self.assertEqual(self.found("RowsRejected", "Stream"), [(stream,) for stream in rejected])

    def test_a_gap_is_told_with_its_reason(self):
        gaps = [(row["run"]["stream"], gap["why"]) for row in self.health for gap in row["run"].get("gaps", [])]
        self.assertTrue(gaps)
        self.assertEqual(self.found("GapInStream", "Stream", "Why"), sorted(gaps))

    def test_a_secret_that_ends_is_told(self):
        [left] = {row["secretDaysLeft"] for row in self.health if "secretDaysLeft" in row}
        self.assertEqual(self.found("SecretExpires", "SecretDaysLeft"), [(left,)])

    def test_streams_that_no_longer_run_are_told_and_why_the_last_run_failed(self):
        self.assertEqual(self.found("ConnectorSilent", "Stream"), [])
        expected = sorted((row["run"]["stream"], row["run"].get("reason", "")) for row in self.health)
        self.assertEqual(self.found("ConnectorSilent", "Stream", "Reason", later=True), expected)
        self.assertEqual(self.runs(lambda run: run["outcome"] == "failed"), ["defender.machines"])


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
    for criterion in page["connectivityCriterias"]:
        for text in criterion["value"]:
            yield "connectivity", text
    playbook = (engine.CONTENT / "playbooks/CommentOnIncident/azuredeploy.json").read_text()
    for text in re.findall(r'"query": ("(?:[^"\\]|\\.)*")', playbook):
        yield "playbook", re.sub(r"@\{[^}]*\}", "10.1.2.3", json.loads(text))
    for page in [engine.ROOT / "README.md", *sorted((engine.ROOT / "docs").rglob("*.md"))]:
        found = re.findall(r"^```(?:kql|kusto)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for at, text in enumerate(found):
            yield f"{page.relative_to(engine.ROOT)} block {at + 1}", text


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
