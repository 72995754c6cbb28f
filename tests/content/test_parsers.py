"""The parsers, the connector's test of its connection, and the workbook, run over rows made for them."""

import datetime
import json
import unittest

import scene
from engine import CONTENT, NOW, ROOT, Workspace

ESET = {
    "TimeGenerated": "-10m",
    "providerName": "ESET",
    "connectionName": "default",
    "streamName": "eset.detections",
    "recordId": "d1",
    "recordVersion": "aaaaaaaaaaaaaaaa",
    "eventTime": "-1h",
    "detectionUuid": "d1",
    "displayName": "Win32/Quillspan.KT trojan",
    "typeName": "Trojan",
    "objectTypeName": "File",
    "category": "DETECTION_CATEGORY_ANTIVIRUS",
    "severityLevel": "SEVERITY_LEVEL_HIGH",
    "deviceUuid": "u1",
    "deviceDisplayName": "pc-1.fennbridge.example",
    "userNameBase": "FENNBRIDGE\\ada",
    "networkCommunication": {"localIpAddress": "10.1.2.3", "direction": "NETWORK_COMMUNICATION_DIRECTION_INBOUND"},
    "additionalFields": {"mitreTechniques": ["T1059", "T1204.002"]},
}
STOCK = {
    name: value
    for name, value in ESET.items()
    if name in ("TimeGenerated", "detectionUuid", "displayName", "severityLevel", "deviceUuid")
} | {"occurTime": "-1h"}
HEALTH = {
    "TimeGenerated": "-10m",
    "providerName": "sentinel-connector",
    "connectionName": "default",
    "streamName": "connector.health",
    "recordId": "h1",
    "additionalFields": {"run": {"stream": "eset.detections", "outcome": "up-to-date", "pulled": 0}},
}
# Records that once fell short, with the rows that the connector makes of them.
CASES = json.loads((ROOT / "tests/fixtures/cases.json").read_text())


def setUpModule():
    global ALERT, MACHINE
    ALERT = like("alert", TimeGenerated="-10m", eventTime="-30m", displayName="Suspicious sign-in", severityLevel="high")
    addresses = [{"ipAddress": "10.1.2.3"}, {"ipAddress": "2001:db8::1", "macAddress": None}, {"ipAddress": "127.0.0.1"}]
    fields = {"lastIpAddress": "10.1.2.3", "lastExternalIpAddress": "203.0.113.9", "ipAddresses": addresses}
    MACHINE = like("machine", TimeGenerated="-2d", deviceDisplayName="srv-01", additionalFields=fields)


def like(name, **changes):
    """A row that the connector wrote, with other values."""
    return scene.made({"like": name} | changes)


def rows_of(case):
    """The rows of a case."""
    found = [one["row"] | {"TimeGenerated": "-10m"} for one in CASES if one["case"] == case]
    assert found, case
    return found


def run(text, *rows, incidents=()):
    return Workspace({"IntegrationTable_CL": rows, "IntegrationTableIncidents_CL": incidents}).run(text)


class Detections(unittest.TestCase):
    def test_repeats_and_earlier_versions_are_left_out(self):
        later = ESET | {"TimeGenerated": "-5m", "recordVersion": "bbbbbbbbbbbbbbbb", "resolved": True}
        [row] = run("IntegrationDetections()", ESET, later, ESET)
        self.assertIs(row["resolved"], True)

    def test_what_the_stock_connector_wrote_before_is_the_same_detection(self):
        [row] = run("IntegrationDetections()", STOCK | {"TimeGenerated": "-3h"}, ESET)
        self.assertEqual((row["DetectionId"], row["DeviceName"]), ("d1", "pc-1.fennbridge.example"))
        [row] = run("IntegrationDetections()", STOCK)
        self.assertEqual((row["Provider"], row["DetectionId"], row["Severity"]), ("ESET", "d1", "High"))

    def test_groups_of_the_stock_connector_are_read(self):
        [row] = run("IntegrationDetections()", STOCK | {"detectionUuid": ["d1", "d2"]})
        self.assertEqual(json.loads(row["DetectionId"]), ["d1", "d2"])

    def test_the_later_update_of_an_alert_counts_not_the_later_row(self):
        closed = ALERT | {"TimeGenerated": "-20m", "eventTime": "-25m", "resolved": True}
        [row] = run("IntegrationDetections()", closed, ALERT)
        self.assertIs(row["resolved"], True)

    def test_alerts_of_two_tenants_are_two(self):
        rows = run("IntegrationDetections()", ALERT, ALERT | {"connectionName": "contoso"})
        self.assertEqual([row["Name"] for row in rows], ["Suspicious sign-in"] * 2)

    def test_an_alert_is_about_each_device_of_its_evidence(self):
        first, second = MACHINE["recordId"], "0" * 40
        about = [{"mdeDeviceId": first}, {"mdeDeviceId": second}, {"mdeDeviceId": first, "fileDetails": {}}]
        alert = ALERT | {"context": {"evidence": ALERT["context"]["evidence"] + about}}
        [row] = run("IntegrationDetections() | project DeviceId, DeviceIds", alert)
        self.assertEqual((row["DeviceId"], set(json.loads(row["DeviceIds"]))), (first, {first, second}))
        [row] = run("AssetByAddress('10.1.2.3')", MACHINE, alert)
        self.assertEqual(row["OpenAlerts"], 1)

    def test_an_alert_happened_when_its_activity_began_and_is_known_since_it_landed(self):
        again = ALERT | {"TimeGenerated": "-1m", "eventTime": "-2m"}
        [row] = run("IntegrationDetections()", again, ALERT)
        began = datetime.datetime.fromisoformat(ALERT["occurTime"][:19])
        self.assertEqual(row["eventTime"].replace(microsecond=0), began)
        self.assertEqual(row["KnownSince"], NOW - datetime.timedelta(minutes=10))

    def test_an_alert_by_the_other_api_reads_alike(self):
        alert = like("alert of mde", TimeGenerated="-10m", userNameBase="ada", deviceUuid="d1", severityLevel="High")
        [row] = run("IntegrationDetections()", alert)
        found = [row[name] for name in ("Provider", "Severity", "DeviceId", "UserName", "resolved")]
        self.assertEqual(found, ["Microsoft Defender", "High", "d1", "ada", False])
        self.assertEqual((row["Name"], json.loads(row["DeviceIds"])), (alert["displayName"], ["d1"]))

    def test_the_window_is_one_of_ingestion(self):
        self.assertEqual(run("IntegrationDetections(ago(5m))", ESET), [])
        self.assertEqual(run("IntegrationDetections(ago(1h), ago(20m))", ESET), [])
        self.assertEqual(len(run("IntegrationDetections(ago(1h), now())", ESET)), 1)

    def test_a_threat_without_a_display_name_is_named_by_what_there_is(self):
        sentence = "Event occurred on a file that was modified."
        expected = [
            ("Win32/Quillspan.KT", "nil", "Malware: Other", "Win32/Quillspan.KT"),
            ("", "nil", "Malware: VBS/TrojanDownloader.Agent.YUI", "VBS/TrojanDownloader.Agent.YUI"),
            ("nil", "None", "Potentially unwanted application: PDFTool.B", "PDFTool.B"),
            ("", "TCP Port scanning attack", "Eicar", "Eicar"),
            ("", "TCP Port scanning attack", sentence, "TCP Port scanning attack"),
            ("", "TCP Port scanning attack", "null", "TCP Port scanning attack"),
            ("", "nil", sentence, sentence),
            ("", "nil", "", ""),
        ]
        rows = [
            ESET | {"recordId": str(at), "displayName": name, "typeName": kind, "context": {"circumstances": told}}
            for at, (name, kind, told, _) in enumerate(expected)
        ]
        found = {row["DetectionId"]: row["Name"] for row in run("IntegrationDetections()", *rows)}
        self.assertEqual([found[str(at)] for at in range(len(rows))], [one[-1] for one in expected])
        stock = {row["EventOriginalUid"]: row["EventMessage"] for row in run("ESETProtectPlatform", rows[1])}
        self.assertEqual(list(stock.values()), ["VBS/TrojanDownloader.Agent.YUI"])

    def test_what_was_done_is_what_responses_or_evidence_say(self):
        def graph(*pairs):
            names = ("remediationStatus", "detectionStatus")
            return ALERT | {"context": {"evidence": [dict(zip(names, pair)) for pair in pairs]}}

        expected = [
            (ESET | {"responses": [{"displayName": "Cleaned by deleting"}]}, "Cleaned"),
            (ESET | {"responses": [{"displayName": "Connection terminated"}]}, "Blocked"),
            (ESET | {"responses": [{"displayName": "Unable to clean"}]}, "None"),
            (ESET | {"responses": [{"actionType": "OBJECT_ACTION_TYPE_NO_ACTION"}]}, "None"),
            (ESET | {"responses": [{"displayName": "", "actionType": "OBJECT_ACTION_TYPE_UNSPECIFIED"}]}, "NA"),
            (ESET | {"responses": [{"displayName": "nil"}]}, "NA"),
            (ESET, "NA"),
            (graph(("remediated", "prevented")), "Cleaned"),
            (graph(("none", "prevented"), ("none", "detected")), "Blocked"),
            (graph(("none", "blocked")), "Blocked"),
            (graph(("blocked", "unknown")), "Blocked"),
            (graph(("remediated", "detected"), ("active", "detected")), "None"),
            (graph(("unremediated", "detected")), "None"),
            (graph(("none", "detected")), "None"),
            (graph(("none", "unknownFutureValue")), "NA"),
        ]
        rows = [row | {"recordId": str(at)} for at, (row, _) in enumerate(expected)]
        found = {row["DetectionId"]: row["Action"] for row in run("IntegrationDetections()", *rows)}
        self.assertEqual([found[str(at)] for at in range(len(rows))], [action for _, action in expected])

    def test_words_for_nothing_are_no_values(self):
        nothing = {"userNameBase": "nil", "deviceDisplayName": "None", "objectHashSha1": "null", "deviceUuid": "0"}
        addresses = {"networkCommunication": {"localIpAddress": "null", "remoteIpAddress": "nil", "protocolName": "0"}}
        [row] = run("IntegrationDetections()", ESET | nothing | addresses)
        names = ("UserName", "DeviceName", "FileHash", "DeviceId", "LocalAddress", "RemoteAddress")
        self.assertEqual([row[name] for name in names], [""] * 6)
        self.assertEqual(json.loads(row["DeviceIds"]), [])
        [row] = run("ESETProtectPlatform", ESET | nothing | addresses)
        self.assertEqual((row["NetworkProtocol"], row["User"], row["SrcIpAddr"]), ("", "", ""))

    def test_devices_of_an_alert_are_told_once_and_none_is_empty(self):
        about = [{"mdeDeviceId": "m1"}, {"mdeDeviceId": "m2"}, {"mdeDeviceId": "m1"}, {"mdeDeviceId": ""}, {"mdeDeviceId": None}]
        [row] = run("IntegrationDetections()", ALERT | {"context": {"evidence": about}})
        self.assertEqual(sorted(json.loads(row["DeviceIds"])), ["m1", "m2"])

    def test_others_stay_out_of_the_stock_function(self):
        other = ESET | {"streamName": "", "providerName": "Contoso", "recordId": "x", "detectionUuid": "x"}
        rows = run("ESETProtectPlatform", ESET, STOCK | {"detectionUuid": "d9"}, ALERT, MACHINE, HEALTH, other)
        self.assertEqual(sorted(json.loads(row["EventOriginalUid"]) for row in rows), ["d1", "d9"])
        self.assertEqual({row["NetworkDirection"] for row in rows}, {"Inbound", "NA"})


class Cases(unittest.TestCase):
    """Rows as the connector makes them of what services send, by the content."""

    def asim(self, case):
        found = run("ASimAlertEventESETProtect()", *rows_of(case))
        return sorted(found, key=lambda row: row["AlertId"])

    def test_a_detection_without_a_display_name_is_named_by_its_circumstances(self):
        threat = "VBS/TrojanDownloader.Agent.YUI"
        [row] = run("IntegrationDetections()", *rows_of("03"))
        self.assertEqual((row["Name"], row["Action"]), (threat, "NA"))
        [row] = self.asim("03")
        names = ("AlertName", "ThreatName", "ThreatCategory", "EventResult", "FileName", "FilePath")
        self.assertEqual([row[name] for name in names], [threat, threat, "Trojan", "NA", "", ""])

    def test_a_weakness_without_a_cve_counts_as_one_with_it(self):
        [row] = run("IntegrationVulnerabilities", *rows_of("04"))
        names = ("CveId", "DeviceId", "Severity", "Vendor", "Software", "SoftwareVersion")
        self.assertEqual([row[name] for name in names], ["TVM-2020-0002", "m1", "High", "vendor", "tools", "1.0"])

    def test_the_path_of_a_detection_is_one_of_its_system(self):
        paths = [row["FilePath"] for row in self.asim("06")]
        self.assertEqual(paths, ["/home/ann/x.sh", r"C:\Program Files\a.exe", r"C:\Temp\a.zip\b"])

    def test_an_alert_was_cleaned_as_its_evidence_says(self):
        [row] = run("IntegrationDetections()", *rows_of("07"))
        self.assertEqual(row["Action"], "Cleaned")

    def test_an_alert_names_its_user_and_the_other_side(self):
        [row] = run("IntegrationDetections()", *rows_of("08"))
        self.assertEqual(row["UserName"], "ann@example.com")
        [row] = run("IntegrationDetections()", *rows_of("11"))
        self.assertEqual((row["UserName"], row["RemoteAddress"]), ("ann@example.com", "198.51.100.7"))


class Incidents(unittest.TestCase):
    def test_the_latest_version_of_each_is_kept(self):
        opened = {
            "TimeGenerated": "-10m", "providerName": "ESET", "streamName": "eset.incidents", "recordId": "i1", "uuid": "i1",
            "updateTime": "-2h", "status": "INCIDENT_STATUS_OPEN", "severity": "INCIDENT_SEVERITY_LEVEL_MEDIUM",
        }
        closed = opened | {
            "TimeGenerated": "-20m", "updateTime": "-1h", "status": "INCIDENT_STATUS_CLOSED",
            "resolveReason": "INCIDENT_RESOLVE_REASON_TRUE_POSITIVE",
        }
        [row] = run("IntegrationIncidents", incidents=[opened, closed, opened])
        found = (row["IncidentStatus"], row["IncidentSeverity"], row["Classification"])
        self.assertEqual(found, ("Closed", "Medium", "TruePositive"))
        self.assertEqual(len(run("IntegrationIncidentHistory", incidents=[opened, closed, opened])), 2)


class Assets(unittest.TestCase):
    def test_a_device_is_found_by_each_of_its_addresses(self):
        for address in ("10.1.2.3", "203.0.113.9", "2001:db8::1"):
            [row] = run(f"AssetByAddress('{address}')", MACHINE, ALERT)
            self.assertEqual((row["DeviceName"], row["OpenAlerts"], row["WorstAlert"]), ("srv-01", 1, "High"))

    def test_an_address_is_found_however_it_is_spelt(self):
        for address in ("2001:DB8:0::0001", "[2001:db8::1]", "::ffff:10.1.2.3"):
            self.assertEqual([row["DeviceName"] for row in run(f"AssetByAddress('{address}')", MACHINE)], ["srv-01"], address)

    def test_other_addresses_find_nothing(self):
        local = [{"ipAddress": one} for one in ("127.0.0.1", "::1", "FE80::1", "169.254.1.2")]
        machine = MACHINE | {"additionalFields": MACHINE["additionalFields"] | {"ipAddresses": local}}
        for address in ("0:0::1", "FE80:0::1%eth0", "169.254.1.2"):
            self.assertEqual(run(f"AssetByAddress('{address}')", machine), [], address)
        for address in ("10.1.2.30", "10.1.2", "", "127.0.0.1", "10.1.2.3/8"):
            self.assertEqual(run(f"AssetByAddress('{address}')", MACHINE, ALERT), [])

    def test_a_device_that_is_gone_is_not_found(self):
        gone = like("gone", TimeGenerated="-1d", recordId=MACHINE["recordId"])
        self.assertEqual(run("IntegrationDevices", MACHINE, gone), [])
        self.assertEqual(run("AssetByAddress('10.1.2.3')", MACHINE, gone), [])
        self.assertEqual(len(run("AssetByAddress('10.1.2.3')", MACHINE | {"TimeGenerated": "-1h"}, gone)), 1)

    def test_weaknesses_are_counted_and_the_worst_is_named(self):
        def weakness(cve, level, score):
            changes = {"recordId": cve, "typeName": cve, "severityScore": score, "TimeGenerated": "-2d"}
            return like("exported", additionalFields={"ExploitabilityLevel": level}, **changes)

        rows = weakness("CVE-2026-1", "NoExploit", "9.9"), weakness("CVE-2026-2", "ExploitIsInKit", "7.5")
        [row] = run("AssetByAddress('10.1.2.3')", MACHINE, *rows)
        found = (row["Vulnerabilities"], row["ExploitableVulnerabilities"], row["WorstCve"], row["WorstCvss"])
        self.assertEqual(found, (2, 1, "CVE-2026-2", 9.9))


class Asim(unittest.TestCase):
    NAMES = [
        "ipaddr_has_any_prefix", "hostname_has_any", "username_has_any", "attacktactics_has_any",
        "attacktechniques_has_any", "threatcategory_has_any", "alertverdict_has_any", "eventseverity_has_any",
    ]

    def count(self, **filters):
        lists = ", ".join(f"dynamic({json.dumps(filters.get(name, []))})" for name in self.NAMES)
        start, end = filters.get("starttime", "datetime(null)"), filters.get("endtime", "datetime(null)")
        disabled = json.dumps(filters.get("disabled", False))
        return len(run(f"vimAlertEventESETProtect({start}, {end}, {lists}, {disabled})", ESET, ALERT))

    def test_each_filter_lets_through_what_matches_and_nothing_else(self):
        self.assertEqual(self.count(), 1)
        for name, good, bad in [
            ("ipaddr_has_any_prefix", "10.1.", "10.2."),
            ("hostname_has_any", "pc-1", "pc-2"),
            ("username_has_any", "ada", "bob"),
            ("attacktechniques_has_any", "T1059", "T1190"),
            ("threatcategory_has_any", "Trojan", "Worm"),
            ("alertverdict_has_any", "Unknown", "True Positive"),
            ("eventseverity_has_any", "High", "Low"),
        ]:
            with self.subTest(name):
                self.assertEqual((self.count(**{name: [bad, good]}), self.count(**{name: [bad]})), (1, 0))
        self.assertEqual(self.count(attacktactics_has_any=["Execution"]), 0)
        self.assertEqual((self.count(starttime="ago(1h)"), self.count(starttime="ago(1m)")), (1, 0))
        self.assertEqual((self.count(endtime="now()"), self.count(endtime="ago(1h)")), (1, 0))
        self.assertEqual(self.count(disabled=True), 0)

    def test_a_full_name_of_a_device_is_taken_apart(self):
        [row] = run("ASimAlertEventESETProtect()", ESET)
        found = [row[name] for name in ("DvcHostname", "DvcDomain", "DvcFQDN", "DvcDomainType", "UsernameType")]
        self.assertEqual(found, ["pc-1", "fennbridge.example", "pc-1.fennbridge.example", "FQDN", "Windows"])
        self.assertEqual((row["ThreatCategory"], row["AttackTechniques"]), ("Trojan", "T1059, T1204.002"))


    def test_a_threat_without_a_display_name_has_its_names_and_its_category(self):
        nothing = {"responses": [{"description": "", "displayName": ""}], "objectName": "", "objectUrl": "script"}
        told = {"displayName": "", "typeName": "nil", "context": {"circumstances": "Malware: VBS/TrojanDownloader.Agent.YUI"}}
        [row] = run("ASimAlertEventESETProtect()", ESET | told | nothing)
        self.assertEqual({row["AlertName"], row["ThreatName"]}, {"VBS/TrojanDownloader.Agent.YUI"})
        found = [row[name] for name in ("ThreatCategory", "EventResult", "FileName", "FilePath", "ThreatOriginalCategory")]
        self.assertEqual(found, ["Trojan", "NA", "", "", ""])

    def test_a_path_is_read_in_each_of_its_spellings(self):
        paths = {
            "file:///home/ann/x.sh": ("/home/ann/x.sh", "x.sh"),
            "file:///C:/Program%20Files/a.exe": (r"C:\Program Files\a.exe", "a.exe"),
            "file:///C:/a+b%C3%A9.exe": ("C:\\a+b\u00e9.exe", "a+b\u00e9.exe"),
            "FILE://localhost/C:/a.exe": (r"C:\a.exe", "a.exe"),
            "file://srv/share/a%20b.exe": (r"\\srv\share\a b.exe", "a b.exe"),
            "file://///srv/share/a.exe": (r"\\srv\share\a.exe", "a.exe"),
            r"C:\Temp\a.zip\b": (r"C:\Temp\a.zip\b", "b"),
            r"\\srv\share\a.exe": (r"\\srv\share\a.exe", "a.exe"),
            r"%TEMP%\100%20.exe": (r"%TEMP%\100%20.exe", "100%20.exe"),
            "C:/a/b.exe": (r"C:\a\b.exe", "b.exe"),
            "/tmp/100%20x": ("/tmp/100%20x", "100%20x"),
            "script": ("", ""),
            "https://files.example/a.exe": ("", ""),
        }
        rows = [ESET | {"recordId": str(at), "objectUrl": url} for at, url in enumerate(paths)]
        found = {row["AlertId"]: row for row in run("ASimAlertEventESETProtect()", *rows)}
        places = [(found[str(at)]["FilePath"], found[str(at)]["FileName"]) for at in range(len(rows))]
        self.assertEqual(dict(zip(paths, places)), paths)
        self.assertEqual(found[str(len(rows) - 1)]["Url"], "https://files.example/a.exe")

    def test_a_name_of_its_own_is_kept_and_a_path_in_its_place_is_read(self):
        rows = [
            ESET | {"recordId": "1", "objectUrl": "file:///tmp/x", "objectName": "setup.exe"},
            ESET | {"recordId": "2", "objectUrl": "", "objectName": r"C:\Temp\setup.exe"},
        ]
        found = {row["AlertId"]: (row["FilePath"], row["FileName"]) for row in run("ASimAlertEventESETProtect()", *rows)}
        self.assertEqual(found, {"1": ("/tmp/x", "setup.exe"), "2": (r"C:\Temp\setup.exe", "setup.exe")})

    def test_the_other_end_stands_in_additional_fields(self):
        attacked = {"networkCommunication": {"remoteIpAddress": "203.0.113.7", "remotePort": 4444}, "processUuid": "0"}
        [row] = run("ASimAlertEventESETProtect()", ESET | attacked)
        fields = json.loads(row["AdditionalFields"])
        self.assertEqual((fields["RemoteIpAddr"], fields["RemotePortNumber"]), ("203.0.113.7", 4444))
        self.assertEqual((fields["mitreTechniques"], row["ProcessId"]), (["T1059", "T1204.002"], ""))
        [row] = run("ASimAlertEventESETProtect()", ESET | {"processUuid": "4712"})
        self.assertNotIn("RemoteIpAddr", json.loads(row["AdditionalFields"]))
        self.assertEqual(row["ProcessId"], "4712")
        [row] = run("ASimAlertEventESETProtect()", ESET | {"processUuid": "0b1c6d0f-7a06-4f57-9c3d-6b8a2e4f7c78"})
        self.assertEqual(row["ProcessId"], "")


class Connector(unittest.TestCase):
    def connected(self, *rows):
        definition = json.loads((CONTENT / "data-connectors/SentinelConnector.json").read_text())
        [text] = definition["connectivityCriterias"][0]["value"]
        [row] = run(text, *rows)
        return row["IsConnected"]

    def runs(self, *ago, stream="eset.detections", outcome="up-to-date", app="one", **more):
        fields = {"app": app, "run": {"stream": stream, "outcome": outcome} | more}
        return [HEALTH | {"TimeGenerated": f"-{span}", "additionalFields": fields} for span in ago]

    def test_a_quiet_tenant_is_connected(self):
        self.assertIs(self.connected(*self.runs("14m", "9m", "4m")), True)

    def test_nothing_at_all_is_not_connected(self):
        self.assertIs(self.connected(), False)

    def test_a_stream_that_is_silent_for_three_of_its_periods_is_not_connected(self):
        well = self.runs("14m", "9m", "4m")
        self.assertIs(self.connected(*self.runs("26m", "21m", "16m")), False)
        self.assertIs(self.connected(*well, *self.runs("26m", "21m", "16m", stream="eset.incidents")), False)
        self.assertIs(self.connected(*well, *self.runs("7h", "1h", stream="defender.machines")), True)
        self.assertIs(self.connected(*well, *self.runs("50h", "44h", "25h", stream="defender.machines")), True)
        self.assertIs(self.connected(*well, *self.runs("50h", "44h", "38h", stream="defender.machines")), False)

    def test_a_second_app_does_not_stand_for_one_that_is_silent(self):
        living = self.runs("14m", "9m", "4m", app="two")
        self.assertIs(self.connected(*self.runs("26m", "21m", "16m"), *living), False)
        self.assertIs(self.connected(*self.runs("13m", "8m", "3m"), *living), True)

    def test_rows_do_not_stand_for_runs(self):
        self.assertIs(self.connected(ESET), False)

    def test_runs_that_fail_do_not_stand_for_a_connection(self):
        failed = self.runs("15m", "10m", "5m", outcome="failed")
        self.assertIs(self.connected(*self.runs("30m", "25m", "20m"), *failed), False)

    def test_a_stream_that_never_was_there_is_no_fault_and_one_that_was_is(self):
        off = self.runs("15m", "10m", "5m", outcome="off")
        self.assertIs(self.connected(*off), True)
        lost = self.runs("15m", "10m", "5m", outcome="off", errorKind="config")
        self.assertIs(self.connected(*self.runs("30m", "25m", "20m"), *lost), False)


if __name__ == "__main__":
    unittest.main()
