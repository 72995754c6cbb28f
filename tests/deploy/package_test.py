"""The package: what is in it, and that it runs as the Functions host runs it.

package/build.py has built it before; PACKAGE in the environment is its path. The package has no simulator: the
world is played by a build of the source, such as the one of the other tests. CONNECTOR is its path, when it is
elsewhere.
"""

import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "package"))
import build  # noqa: E402

PLACEHOLDER = "OWNER" + "/REPO"


def connector():
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / build.BINARY
    return Path(os.environ.get("CONNECTOR", built)).resolve()


def package():
    return Path(os.environ["PACKAGE"]).resolve()


class Contents(unittest.TestCase):
    def test_it_holds_what_the_host_needs_and_nothing_else(self):
        functions = [path.parent.name for path in ROOT.glob("*/function.json")]
        self.assertLessEqual({"EsetTimer", "DefenderTimer", "SentinelPush", "Assets", "Status"}, set(functions))
        expected = ["host.json", build.BINARY, *(f"{name}/function.json" for name in functions)]
        with zipfile.ZipFile(package()) as opened:
            self.assertEqual(opened.namelist(), sorted(expected))
            self.assertIsNone(opened.testzip())
            for entry in opened.infolist():
                mode = 0o100755 if entry.filename == build.BINARY else 0o100644
                self.assertEqual(entry.external_attr >> 16, mode, entry.filename)
                self.assertEqual(entry.date_time, (1980, 1, 1, 0, 0, 0))
                if entry.filename != build.BINARY:
                    self.assertEqual(opened.read(entry), (ROOT / entry.filename).read_bytes())

    def test_it_is_small_and_named_by_its_content(self):
        self.assertLessEqual(package().stat().st_size, build.LIMIT)
        digest = hashlib.sha256(package().read_bytes()).hexdigest()
        self.assertEqual(package().name, f"sentinel-connector-{build.version(ROOT)}-{digest[:12]}.zip")

    def test_the_binary_does_not_tell_where_it_was_built(self):
        with zipfile.ZipFile(package()) as opened:
            binary = opened.read(build.BINARY)
        home = os.environ.get("CARGO_HOME", f"{Path.home()}/.cargo")
        for place in (str(ROOT), home, str(package().parent.parent)):
            self.assertFalse(place.encode() in binary, f"it holds {place}")

    def test_the_binary_holds_nothing_of_the_simulator(self):
        with zipfile.ZipFile(package()) as opened:
            packed = opened.read(build.BINARY)
        # Whoever plays the world can sign for it, and knows the faults by name.
        for mark in (b"sentinel-connector simulator", b"202-no-id", b"simulator-ca.pem"):
            self.assertIn(mark, connector().read_bytes())
            self.assertFalse(mark in packed, f"it holds {mark}")

    def test_the_same_files_make_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = (build.assemble(ROOT, b"binary" * 99, Path(folder) / name) for name in "ab")
            self.assertEqual(first.read_bytes(), second.read_bytes())
            other = build.assemble(ROOT, b"another", Path(folder) / "c")
            self.assertNotEqual(first.name, other.name)


class Links(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for name in ("README.md", "azuredeploy.json"):
            shutil.copy(ROOT / name, self.root / name)

    def write(self, base_url):
        build.write_links(self.root, base_url, "package-1.zip", "0123abcd")
        template = json.loads((self.root / "azuredeploy.json").read_text())
        readme = (self.root / "README.md").read_text()
        button = readme.split(build.BUTTON, 1)[1].split("(", 1)[1].split(")", 1)[0]
        return template["variables"]["package"], button, readme

    def test_template_and_readme_point_to_the_release(self):
        for _ in range(2):
            base = "https://github.com/contoso/connector/releases/download/v1.2.3"
            package, button, readme = self.write(base)
            self.assertEqual(package, f"{base}/package-1.zip")
            self.assertIn(f"<{package}>, SHA-256 `0123abcd`", readme)
            template, form = button.removeprefix(f"{build.PORTAL}/uri/").split("/createUIDefinitionUri/")
            raw = "https://raw.githubusercontent.com/contoso/connector/v1.2.3"
            self.assertEqual(urllib.parse.unquote(template), f"{raw}/azuredeploy.json")
            self.assertEqual(urllib.parse.unquote(form), f"{raw}/createUiDefinition.json")
            self.assertNotIn(PLACEHOLDER, readme + (self.root / "azuredeploy.json").read_text())

    def test_any_other_folder_holds_the_templates_too(self):
        package, button, _ = self.write("https://files.contoso.example/connector")
        self.assertEqual(package, "https://files.contoso.example/connector/package-1.zip")
        self.assertIn(urllib.parse.quote("https://files.contoso.example/connector/azuredeploy.json", safe=""), button)

    def test_the_placeholder_stands_in_one_place(self):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        found = [
            name
            for name in listed.stdout.split("\0")
            if name and (ROOT / name).is_file()
            for _ in range((ROOT / name).read_bytes().count(PLACEHOLDER.encode()))
        ]
        released = [] if PLACEHOLDER not in (ROOT / "azuredeploy.json").read_text() else ["azuredeploy.json"]
        self.assertEqual(found, released)


class Running(unittest.TestCase):
    """Unpacked into a folder that the process can't write to, in an environment of our making."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        top = Path(self.folder.name)
        top.chmod(0o755)
        self.app, self.data, self.world = top / "app", top / "data", top / "world"
        self.data.mkdir()
        with zipfile.ZipFile(package()) as opened:
            for entry in opened.infolist():
                path = self.app / entry.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(opened.read(entry))
                path.chmod(entry.external_attr >> 16 & 0o777)
        # Root could write anywhere, so the process is somebody else's.
        self.user = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = nobody.pw_uid
            os.chown(self.data, nobody.pw_uid, nobody.pw_gid)
        for path in [*self.app.rglob("*"), self.app]:
            path.chmod(path.stat().st_mode & ~0o222)
        self.addCleanup(lambda: [path.chmod(0o755) for path in [self.app, *self.app.rglob("*")]])
        host = json.loads((self.app / "host.json").read_text())["customHandler"]["description"]
        self.binary, self.arguments = self.app / host["defaultExecutablePath"], host["arguments"]

    def start(self, arguments, environment):
        """The packed binary, as somebody who may write nothing but its data."""
        return self.begin([self.binary, *arguments], environment, self.user)

    def begin(self, command, environment, user=None):
        process = subprocess.Popen(
            command,
            cwd=self.app,
            env=environment,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        return process

    def serve(self, environment):
        """Starts the handler as the host does, and waits until it answers. Returns its address and its log."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = {
            "FUNCTIONS_CUSTOMHANDLER_PORT": str(port),
            "FUNCTIONS_HTTPWORKER_PORT": str(port),
            "FUNCTIONS_CUSTOMHANDLER_WORKER_ID": "worker",
            "FUNCTIONS_APP_ROOT_PATH": str(self.app),
        }
        process = self.start(self.arguments, given | environment)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                self.assertIsNone(process.poll(), "it ended")
                self.assertLess(time.monotonic(), deadline, "it does not answer")
        return f"http://127.0.0.1:{port}", process

    def call(self, address, function, query=None):
        """As the host calls it: at its time or, with a query, for somebody's `GET`."""
        data = {"timer": {"IsPastDue": False}} if query is None else {"req": {"Method": "GET", "Query": query}}
        envelope = {"Data": data, "Metadata": {"sys": {"MethodName": function}}}
        request = urllib.request.Request(
            f"{address}/{function}",
            data=json.dumps(envelope).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def end(self, process):
        process.terminate()
        printed, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, printed)
        return printed

    def test_without_settings_it_starts_and_says_what_is_missing(self):
        address, process = self.serve({})
        status, answer = self.call(address, "EsetTimer")
        self.assertEqual(status, 500, answer)
        self.assertIn("LOGS_INGESTION_ENDPOINT", json.dumps(answer))
        printed = self.end(process)
        started = json.loads(printed.splitlines()[0])
        self.assertEqual((started["message"], started["version"]), ("serving", build.version(ROOT)))

    def test_with_settings_it_pulls(self):
        small = ["--scale", "0.1", "--machines", "9"]
        simulate = [connector(), "simulate", "--listen", "127.0.0.1:0", *small]
        world = self.begin(simulate, {"CONNECTOR_DATA": str(self.world)})
        settings = {}
        for line in world.stdout:
            name, _, value = line.rstrip("\n").partition("=")
            settings[name] = value
            if name == "EXTRA_CA_FILE":
                break
        if self.user is not None:
            os.chown(settings["EXTRA_CA_FILE"], self.user, -1)
        sources = ("ESET_", "DEFENDER_", "GRAPH_", "AZURE_AUTHORITY_", "EXTRA_")
        settings = {name: value for name, value in settings.items() if name.startswith(sources)}
        embedded = {"STORAGE": "embedded", "SINK": "embedded", "CONNECTOR_DATA": str(self.data)}
        address, process = self.serve(settings | embedded)
        for timer in ("EsetTimer", "DefenderTimer"):
            status, answer = self.call(address, timer)
            self.assertEqual(status, 200, answer)
            landed = [stream["landed"] for stream in answer["ReturnValue"]["streams"]]
            self.assertGreater(sum(landed), 0, answer)
        self.assertEqual(self.call(address, "SentinelPush")[0], 200)
        with sqlite3.connect(self.data / "connector.sqlite") as tables:
            [(name,)] = tables.execute(
                "SELECT deviceDisplayName FROM IntegrationTable_CL WHERE streamName = 'defender.machines' LIMIT 1"
            )
        status, answer = self.call(address, "Assets", {"find": name})
        found = json.loads(answer["Outputs"]["res"]["body"]) if status == 200 else answer
        self.assertEqual([machine["name"] for machine in found["machines"]], [name])
        self.end(process)
        self.assertTrue((self.data / "connector.sqlite").exists())

    def test_it_says_where_the_commands_of_the_simulator_are(self):
        for command in ("demo", "simulate", "bench"):
            process = self.start([command, "--rows", "1"], {})
            printed, _ = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 2, printed)
            self.assertIn(f"`{command}` is not in this build", printed)
            self.assertIn(f"cargo run --release -- {command}", printed)
        process = self.start(["--help"], {})
        printed, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, printed)
        self.assertIn("sentinel-connector check", printed)
        self.assertNotIn("sentinel-connector demo", printed)
        self.assertNotIn("sentinel-connector simulate", printed)


def builder():
    """What builds images here, and can get the base of ours."""
    base = re.search(r"^FROM (\S+)", (ROOT / "package/Containerfile").read_text(), re.MULTILINE)[1]
    for tool in ("docker", "podman"):
        if shutil.which(tool) and subprocess.run([tool, "info"], capture_output=True).returncode == 0:
            if subprocess.run([tool, "pull", base], capture_output=True).returncode == 0:
                return tool
    return None


class Image(unittest.TestCase):
    def test_it_is_built_and_starts_as_nobody_over_a_read_only_root(self):
        tool = builder()
        if tool is None:
            self.skipTest("nothing builds images here: tests/deploy/anywhere_test.py has read it")
        name = f"sentinel-connector-test-{os.getpid()}"
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(package()) as opened:
                (Path(folder) / build.BINARY).write_bytes(opened.read(build.BINARY))
            (Path(folder) / build.BINARY).chmod(0o755)
            subprocess.run([tool, "build", "--quiet", "--file", ROOT / "package/Containerfile", "--tag", name, folder], check=True, capture_output=True)
        try:
            settings = {"ESET_REGION": "eu", "ESET_LOGIN": "api@contoso.example", "ESET_PASSWORD": "p", "SINK": "embedded"}
            given = [part for one in settings.items() for part in ("--env", "=".join(one))]
            closed = ["--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
            kept = [tool, "run", *closed, *given, "--volume", f"{name}:/home/nonroot", name]
            subprocess.run([*kept, "check", "--offline"], check=True, capture_output=True)
            subprocess.run([*kept, "cursor", "set", "eset.detections", "2026-11-01T00:00:00Z"], check=True, capture_output=True)
            shown = subprocess.run([*kept, "cursor", "show"], check=True, capture_output=True, text=True)
            self.assertIn("eset.detections", shown.stdout, "the volume keeps what a container wrote")
        finally:
            subprocess.run([tool, "volume", "rm", "--force", name], capture_output=True)
            subprocess.run([tool, "rmi", "--force", name], capture_output=True)


if __name__ == "__main__":
    unittest.main()