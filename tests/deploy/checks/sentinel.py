"""Checks of ours for what checkov knows no check of: the content of Sentinel, and the playbook."""

import json

from checkov.arm.base_resource_check import BaseResourceCheck
from checkov.common.models.enums import CheckCategories, CheckResult

SECRETS = ("password", "secret", "token", "key", "authorization")


def verdict(passed):
    return CheckResult.PASSED if passed else CheckResult.FAILED


class Check(BaseResourceCheck):
    """A check of one type of resource, by a function of its properties."""

    def __init__(self, number, name, resource, holds):
        super().__init__(
            name=name,
            id=f"CKV_CONNECTOR_{number}",
            categories=[CheckCategories.GENERAL_SECURITY],
            supported_resources=[resource],
        )
        self.holds = holds

    def scan_resource_conf(self, conf):
        return verdict(self.holds(conf, conf.get("properties") or {}))


def actions(part):
    """Every action of a workflow, however deep."""
    if isinstance(part, dict):
        if isinstance(part.get("inputs"), (dict, list)):
            yield part
        for member in part.values():
            yield from actions(member)


def signs_in_as_itself(action):
    """Nothing is asked of others without the identity, nor with a secret that stands in the workflow."""
    inputs = action["inputs"]
    if action.get("type") != "Http":
        return True
    headers = {name.lower() for name in inputs.get("headers") or {}}
    return (inputs.get("authentication") or {}).get("type") == "ManagedServiceIdentity" and not headers & set(SECRETS)


def named_by_itself(conf, properties):
    """A function is called by its name; a hunting query is only listed."""
    alias = properties.get("functionAlias")
    return alias in conf["name"] if alias else properties.get("category") == "Hunting Queries"


def is_started_by_sentinel(_, properties):
    triggers = [one for one in properties["definition"]["triggers"].values() if isinstance(one, dict)]
    return [trigger.get("type") for trigger in triggers] == ["ApiConnectionWebhook"]


def belongs_to_its_workspace(_, properties):
    return within(str(properties.get("sourceId")), "Microsoft.OperationalInsights/workspaces", "workspaceName")


def within(text, *parts):
    return all(part in text for part in parts)


CHECKS = [
    Check(
        1,
        "A playbook has an identity of its own, and asks nobody with anything else",
        "Microsoft.Logic/workflows",
        lambda conf, properties: (conf.get("identity") or {}).get("type") == "SystemAssigned"
        and all(signs_in_as_itself(action) for action in actions(properties.get("definition"))),
    ),
    Check(
        2,
        "A playbook is started by Sentinel, not by whoever knows its address",
        "Microsoft.Logic/workflows",
        is_started_by_sentinel,
    ),
    Check(
        3,
        "A connection holds no credential",
        "Microsoft.Web/connections",
        lambda _, properties: properties.get("parameterValueType") == "Alternative" and "parameterValues" not in properties,
    ),
    Check(
        4,
        "A rule raises alerts only when that was asked for",
        "Microsoft.OperationalInsights/workspaces/providers/alertRules",
        lambda _, properties: "enableRules" in str(properties.get("enabled")) or properties.get("enabled") is False,
    ),
    Check(
        5,
        "A function names itself",
        "Microsoft.OperationalInsights/workspaces/savedSearches",
        named_by_itself,
    ),
    Check(
        6,
        "A connector page asks for rights on the workspace",
        "Microsoft.OperationalInsights/workspaces/providers/dataConnectorDefinitions",
        lambda _, properties: within(json.dumps(properties), "resourceProvider", "Microsoft.OperationalInsights/workspaces"),
    ),
    Check(
        7,
        "A workbook belongs to its workspace",
        "Microsoft.Insights/workbooks",
        belongs_to_its_workspace,
    ),
]
