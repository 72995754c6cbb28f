"""checkov over the templates. It passes a file that it has no check for as one without fault, so each file is
held against what was checked in it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CHECKOV = Path(sys.executable).parent / "checkov"
MAIN = ROOT / "azuredeploy.json"
CONTENT = ROOT / "sentinel/azuredeploy.json"
PLAYBOOK = ROOT / "sentinel/playbooks/CommentOnIncident/azuredeploy.json"
TEMPLATES = sorted({MAIN, CONTENT, *ROOT.glob("sentinel/playbooks/*/azuredeploy.json")})

# Types that neither checkov nor tests/deploy/checks has a check for: nothing about them is left to choose that
# tests/it/deploy does not hold.
UNCHECKED = {
    "Microsoft.Insights/components",
    "Microsoft.ManagedIdentity/userAssignedIdentities",
    "Microsoft.Resources/deployments",
    "Microsoft.Storage/storageAccounts/blobServices",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
    "Microsoft.Web/sites/extensions",
}


def checked(files):
    """What checkov says of files: for each one its checks that passed, failed or were skipped."""
    own = ["--external-checks-dir", ROOT / "tests/deploy/checks"]
    command = [CHECKOV, "--framework", "arm", "--skip-download", "--compact", "--output", "json", *own]
    named = [argument for file in files for argument in ("--file", file)]
    environment = os.environ | {"LOG_LEVEL": "ERROR"}
    answer = subprocess.run([*command, *named], env=environment, cwd=ROOT, capture_output=True, text=True)
    results = json.loads(answer.stdout)["results"]
    found = {Path(file): {"passed": [], "failed": [], "skipped": []} for file in files}
    for kind in ("passed", "failed", "skipped"):
        for check in results[f"{kind}_checks"]:
            found[Path(check["file_abs_path"])][kind].append(check)
    return found


def types(found):
    """The types of resources that something was checked of."""
    names = [check["resource"] for checks in found.values() for check in checks]
    return {match[0] for name in names if (match := re.match(r"Microsoft\.\w+(/\w+)+(?=\.)", name))}


def unread(file, found):
    """The types of a file's resources that nothing was checked of."""
    there = {resource["type"] for resource in json.loads(file.read_text())["resources"]}
    return there - types(found) - UNCHECKED


class Templates(unittest.TestCase):
    def test_each_template_is_read_and_has_no_fault(self):
        self.assertGreaterEqual(len(TEMPLATES), 3)
        found = checked(TEMPLATES)
        for file in TEMPLATES:
            with self.subTest(file=file.relative_to(ROOT)):
                faults = [f"{one['check_id']}: {one['check_name']}: {one['resource']}" for one in found[file]["failed"]]
                self.assertEqual(faults, [])
                self.assertEqual(unread(file, found[file]), set())
        self.assertEqual(UNCHECKED & types(found[MAIN]), set(), "these are checked")

    def test_each_fault_is_found_and_so_is_what_nobody_reads(self):
        """A check that finds nothing may have looked at nothing."""
        faults = {
            MAIN: [("TLS1_2", "TLS1_0", "CKV_AZURE_44")],
            CONTENT: [
                ("[parameters('enableRules')]", "[not(false())]", "CKV_CONNECTOR_4"),
                ('"functionAlias": "AssetByAddress"', '"functionAlias": "Another"', "CKV_CONNECTOR_5"),
                ('"resourceProvider"', '"nobody"', "CKV_CONNECTOR_6"),
                ('"sourceId"', '"source"', "CKV_CONNECTOR_7"),
            ],
            PLAYBOOK: [
                ('"type": "SystemAssigned"', '"type": "None"', "CKV_CONNECTOR_1"),
                ("ApiConnectionWebhook", "Request", "CKV_CONNECTOR_2"),
                ("Alternative", "Basic", "CKV_CONNECTOR_3"),
            ],
        }
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder).resolve()
            expected = {}
            for at, (file, changes) in enumerate(faults.items()):
                text = file.read_text()
                for good, bad, _ in changes:
                    self.assertIn(good, text)
                    text = text.replace(good, bad)
                broken = folder / f"broken-{at}.json"
                broken.write_text(text)
                expected[broken] = {check for _, _, check in changes}
            secret = PLAYBOOK.read_text().replace('"type": "ManagedServiceIdentity",', '"type": "Basic",')
            basic, unknown = folder / "basic.json", folder / "unknown.json"
            basic.write_text(secret)
            expected[basic] = {"CKV_CONNECTOR_1"}
            template = json.loads(CONTENT.read_text())
            template["resources"] = [
                {"type": "Microsoft.Nobody/things", "apiVersion": "2024-01-01", "name": "one", "properties": {}}
            ]
            unknown.write_text(json.dumps(template))
            expected[unknown] = set()
            found = checked(list(expected))
            failed = {file: {one["check_id"] for one in checks["failed"]} for file, checks in found.items()}
            self.assertEqual(failed, expected)
            self.assertEqual(unread(unknown, found[unknown]), {"Microsoft.Nobody/things"})


if __name__ == "__main__":
    unittest.main()
