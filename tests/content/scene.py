"""Rows of Defender that belong together, as the connector wrote them: what scenarios are made of."""

import functools
import json

import engine


@functools.cache
def rows():
    """What is there to choose from, by stream."""
    return by_stream(engine.demo())


@functools.cache
def elsewhere():
    """The same alerts and incidents by the other APIs, and a device that has changed its group."""
    settings = {
        "DEFENDER_STREAMS": "software-vulnerabilities,alerts,incidents",
        "DEFENDER_ALERTS_API": "mde",
        "DEFENDER_INCIDENTS_API": "xdr",
    }
    # With so much software something changes in every six hours.
    options = "--fault=defender.software.changes:rbac-move", "--findings=100"
    return by_stream(engine.simulated(*options, **settings))


@functools.cache
def ill():
    """Runs in which a stream fails, one has records that can't become rows, one leaves a gap; and a secret ends.
    By table.
    """
    faults = "--fault=defender.machines:missing-rolex9", "--fault=defender.alerts:bad-record"
    defender = engine.simulated(*faults, ends=1)
    # The password in the vault is good for 180 days; the feed's first token is refused.
    settings = {"WEBSITE_SITE_NAME": "connector", "ESET_PASSWORD": "", "ESET_ENRICH": "none", "ESET_PRODUCTS": "protect"}
    eset = engine.simulated("--fault=eset.detections:expired-deltax1", function="EsetTimer", age=170, **settings)
    return {name: [row for one in (defender, eset) for row in one[name]] for name in eset}


def by_stream(tables):
    found = {}
    for row in (row for table in tables.values() for row in table):
        found.setdefault(row["streamName"], []).append(row)
    return found


def devices(alert):
    """The devices that an alert of Graph is about."""
    return {one["mdeDeviceId"] for one in (alert["context"] or {})["evidence"] if one.get("mdeDeviceId")}


def of_device(stream, device):
    return [row for row in rows()[stream] if row["deviceUuid"] == device]


@functools.cache
def scene():
    """A machine, an open alert on it, a vulnerability that it has in the words of each stream; and more."""
    catalogue = {row["typeName"]: row for row in rows()["defender.vulnerability-catalogue"]}
    for alert in rows()["defender.alerts"]:
        if alert["resolved"] or alert["severityLevel"] not in ("medium", "high") or len(devices(alert)) != 1:
            continue
        [device] = devices(alert)
        exported = {row["typeName"]: row for row in of_device("defender.software-vulnerabilities", device) if from_file(row)}
        machine = of_device("defender.machines", device)
        for listed in of_device("defender.vulnerabilities", device):
            cve = listed["typeName"]
            if machine and cve in exported and cve in catalogue and catalogue[cve]["severityScore"]:
                found = {"machine": machine[0], "alert": alert, "listed": listed, "exported": exported[cve]}
                return found | {"catalogue": catalogue[cve]} | others()
    raise AssertionError("nothing in the company makes a scene")


def from_file(row):
    return row["additionalFields"].get("@from") == "capitals"


def others():
    changes = [row for row in elsewhere()["defender.software-vulnerabilities"] if not from_file(row) and row["typeName"]]
    group = {row["additionalFields"]["rbacGroupName"]: row for row in changes}
    incidents = rows()["defender.incidents"]
    return {
        "fixed": next(row for row in changes if row["resolved"]),
        "software": next(row for row in rows()["defender.software-vulnerabilities"] if not row["typeName"]),
        "moved out": group["Before"],
        "moved in": group["Behind"],
        "alert of mde": next(row for row in elsewhere()["defender.alerts"] if row["deviceUuid"] and not row["resolved"]),
        "incident": next(row for row in incidents if row["status"] == "active"),
        "incident of xdr": next(row for row in elsewhere()["defender.incidents"] if row["status"] == "Active"),
        "gone": json.loads((engine.ROOT / "tests/fixtures/gone-row.json").read_text()),
    }


def made(row):
    """A row as it is, or, with `like`, one of the scene with other values. Only what that has is changed."""
    if "like" not in row:
        return row
    changes = {column: value for column, value in row.items() if column != "like"}
    found = {column: value for column, value in scene()[row["like"]].items() if value not in (None, "")}
    for column, value in changes.items():
        assert column in found, f"{row['like']} has no {column}"
        if column == "additionalFields":
            unknown = value.keys() - found[column].keys()
            assert not unknown, f"{row['like']} has no {unknown}"
            value = found[column] | value
        found[column] = value
    return found
