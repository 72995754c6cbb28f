"""The connector outside of Azure Functions: its unit and its image ask for no more rights than it needs, and start what
docs/run.md says. Image and unit are run where there is a builder, and systemd; elsewhere they are read.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "package/sentinel-connector.service"
IMAGE = ROOT / "package/Containerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "debug/sentinel-connector"

# How much an attacker in the service could reach, of 100, as systemd counts it.
EXPOSURE = 15


def unit(text):
    """The settings of a unit's service, each with its values."""
    found = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text.split("[Service]")[1].split("[Install]")[0], re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def image(text):
    """The last instruction of each kind in a Containerfile."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return dict(re.findall(r"^([A-Z]+) (.*)$", joined, re.MULTILINE))


def lint(text):
    """What hadolint says of a Containerfile."""
    done = subprocess.run([HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True)
    return done.stdout.splitlines()


class Image(unittest.TestCase):
    def test_it_has_no_fault(self):
        self.assertEqual(lint(IMAGE.read_text()), [])
        self.assertTrue(any("DL3002" in line for line in lint(IMAGE.read_text().replace("65532:65532", "root"))))

    def test_it_runs_as_nobody_over_a_root_that_can_be_read_only(self):
        said = image(IMAGE.read_text())
        user, group = said["USER"].split(":")
        self.assertGreater(int(user), 0, "by number, and not root")
        self.assertGreater(int(group), 0)
        data = dict(one.split("=") for one in said["ENV"].split())["CONNECTOR_DATA"]
        self.assertEqual(said["VOLUME"], f'["{data}"]', "what is written lies in the volume")
        self.assertNotIn("RUN", said, "nothing is run while it is built: there is no shell")
        self.assertNotIn(":latest", said["FROM"])


class Service(unittest.TestCase):
    def test_unit_and_image_start_the_same_with_the_same_settings(self):
        service, said = unit(UNIT.read_text()), image(IMAGE.read_text())
        settings = dict(one.split("=") for line in service["Environment"] for one in line.split())
        of_image = dict(one.split("=") for one in said["ENV"].split())
        self.assertEqual(settings.pop("CONNECTOR_DATA"), f"/var/lib/{service['StateDirectory'][0]}")
        of_image.pop("CONNECTOR_DATA")
        self.assertEqual(settings, of_image)
        command = service["ExecStart"][0].split()
        words = [word for part in ("ENTRYPOINT", "CMD") for word in re.findall(r'"([^"]*)"', said[part])]
        self.assertEqual(command, words)
        known = (ROOT / "docs/settings.md").read_text()
        for name in settings:
            self.assertIn(f"| `{name}` |", known)
        # The page names what unit and image are made of.
        page = (ROOT / "docs/run.md").read_text()
        for part in (service["EnvironmentFile"][0].rsplit("/", 1)[0], command[0], "--read-only", "--cap-drop ALL", of_image["SINK"] and "--env-file"):
            self.assertIn(part, page)

    def test_it_has_few_rights(self):
        service = unit(UNIT.read_text())
        for name, value in {"DynamicUser": "yes", "ProtectSystem": "strict", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "UMask": "0077"}.items():
            self.assertEqual(service[name], [value], name)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd here: the unit is only read")
    def test_systemd_understands_it_and_finds_it_closed(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / UNIT.name
            file.write_text(UNIT.read_text().replace("/usr/local/bin/sentinel-connector", "/bin/true"))
            verify = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
            if "Failed to" in verify.stderr and "manager" in verify.stderr:
                self.skipTest(f"systemd can't be asked here: {verify.stderr}")
            self.assertNotIn(UNIT.name, verify.stderr)
            exposed = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}"]
            closed = subprocess.run([*exposed, file], capture_output=True, text=True)
            if "unrecognized option" in closed.stderr:
                self.skipTest("this systemd can't judge a file")
            self.assertEqual(closed.returncode, 0, closed.stdout[-300:])
            file.write_text(file.read_text().replace("CapabilityBoundingSet=\n", "").replace("SystemCallFilter", "X-Filter").replace("DynamicUser", "X-User"))
            open_ = subprocess.run([*exposed, file], capture_output=True, text=True)
            self.assertNotEqual(open_.returncode, 0, "what is open is found")


def can_be_locked_up():
    probe = ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -o remount,bind,ro /"]
    tools = all(shutil.which(tool) for tool in ("unshare", "setpriv"))
    return tools and subprocess.run(probe, capture_output=True).returncode == 0


class LockedUp(unittest.TestCase):
    def test_it_needs_no_rights_and_writes_to_its_state_alone(self):
        if not can_be_locked_up():
            self.skipTest("the root can't be made read-only here")
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            data = Path(folder) / "state"
            data.mkdir()
            os.chown(data, 65532, 65532)
            os.chmod(folder, 0o755)
            program = shutil.copy(BINARY, Path(folder) / "sentinel-connector")
            os.chmod(program, 0o755)
            locked = 'mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec setpriv --reuid=65532'
            locked += ' --regid=65532 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"'
            environment = {"CONNECTOR_DATA": str(data), "STORAGE": "embedded", "SINK": "embedded", "PATH": os.environ["PATH"]}
            environment |= {"ESET_REGION": "eu", "ESET_LOGIN": "api@contoso.example", "ESET_PASSWORD": "p"}
            command = ["unshare", "--mount", "sh", "-c", locked, data, program]
            keep = [*command, "cursor", "set", "eset.detections", "2026-11-01T00:00:00Z"]
            kept = subprocess.run(keep, env=environment, cwd="/", capture_output=True, text=True)
            self.assertEqual(kept.returncode, 0, kept.stdout + kept.stderr)
            self.assertTrue(any(data.iterdir()), "it has kept something")
            environment["CONNECTOR_DATA"] = f"{folder}/elsewhere"
            refused = subprocess.run(keep, env=environment, cwd="/", capture_output=True, text=True)
            self.assertNotEqual(refused.returncode, 0, "the rest was not read-only")


if __name__ == "__main__":
    unittest.main()
