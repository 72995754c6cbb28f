"""What `metrics` prints, read by Prometheus' own client."""

import os
import subprocess
import tempfile
import unittest

from prometheus_client.parser import text_string_to_metric_families
from test_clients import World


class Prometheus(unittest.TestCase):
    def test_the_numbers_of_a_run_are_read_as_what_they_are(self):
        world = World()
        self.addCleanup(world.close)
        with tempfile.TemporaryDirectory() as data:
            settings = {name: value for name, value in world.settings.items() if name.startswith("ESET_")}
            own = {"CONNECTOR_DATA": data, "EXTRA_CA_FILE": world["EXTRA_CA_FILE"]}

            def connector(*arguments):
                command = [os.path.abspath(os.environ["CONNECTOR"]), *arguments]
                return subprocess.run(
                    command, env=settings | own, cwd=data, capture_output=True, text=True, check=True
                ).stdout

            connector("run", "EsetTimer", "--once")
            families = {family.name: family for family in text_string_to_metric_families(connector("metrics"))}
        self.assertTrue(all(family.documentation for family in families.values()))
        kinds = {name.removeprefix("sentinel_connector_"): family.type for name, family in families.items()}
        for name, kind in {
            "records": "counter",
            "read_bytes": "counter",
            "run_duration_seconds": "summary",
            "lag_seconds": "gauge",
            "outbox_size_bytes": "gauge",
        }.items():
            self.assertEqual(kinds.get(name), kind, kinds)
        count = {
            name: sum(sample.value for sample in families[f"sentinel_connector_{name}"].samples)
            for name in ("records", "pulled", "gone")
        }
        self.assertGreater(count["pulled"], 0)
        self.assertEqual(count["records"], count["pulled"] + count["gone"])
        streams = {sample.labels["stream"] for sample in families["sentinel_connector_lag_seconds"].samples}
        self.assertIn("eset.detections", streams)


if __name__ == "__main__":
    unittest.main()
