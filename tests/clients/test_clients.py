"""The simulated services, asked by the clients that Microsoft publishes: what they take for an answer was not
made by whoever made the simulator.

CONNECTOR in the environment is the binary; it simulates one company for all tests.
"""

import asyncio
import os
import subprocess
import tempfile
import time
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import msal
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.monitor.ingestion import LogsIngestionClient
from kiota_abstractions.api_error import APIError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.security.alerts_v2.alerts_v2_request_builder import Alerts_v2RequestBuilder
from msgraph.generated.security.incidents.incidents_request_builder import IncidentsRequestBuilder
from msgraph.generated.security.microsoft_graph_security_run_hunting_query.run_hunting_query_post_request_body import (
    RunHuntingQueryPostRequestBody,
)

GRAPH = "https://graph.microsoft.com/.default"
SMALL = ("--scale", "0.2", "--machines", "30")
LIMIT = 1_048_576


class World:
    """A simulator on a port of its own, and the settings that point at it."""

    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [os.environ["CONNECTOR"], "simulate", "--listen", "127.0.0.1:0", *SMALL, *options],
            env={"CONNECTOR_DATA": self.folder.name},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.settings = {}
        for line in self.process.stdout:
            name, _, value = line.rstrip("\n").partition("=")
            self.settings[name] = value
            if name == "EXTRA_CA_FILE":
                break
        self.authority = self["AZURE_AUTHORITY_HOST"]
        self.port = self.authority.rsplit(":", 1)[1]

    def __getitem__(self, name):
        return self.settings[name]

    def trusted(self):
        """What makes each of the clients trust the simulator's certificate."""
        file = self["EXTRA_CA_FILE"]
        return mock.patch.dict(os.environ, {"REQUESTS_CA_BUNDLE": file, "SSL_CERT_FILE": file})

    def credential(self, kind="AZURE"):
        return ClientSecretCredential(
            self[f"{kind}_TENANT_ID"],
            self[f"{kind}_CLIENT_ID"],
            self[f"{kind}_CLIENT_SECRET"],
            authority=self.authority,
            disable_instance_discovery=True,
        )

    def printed_at_the_end(self):
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=30)
        return printed

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        trusted = cls.world.trusted()
        trusted.start()
        cls.addClassCleanup(trusted.stop)

    def test_msal_finds_the_endpoint_for_tokens_by_itself(self):
        world = self.world
        app = msal.ConfidentialClientApplication(
            world["DEFENDER_CLIENT_ID"],
            client_credential=world["DEFENDER_CLIENT_SECRET"],
            authority=f"{world.authority}/{world['DEFENDER_TENANT_ID']}",
            instance_discovery=False,
        )
        answer = app.acquire_token_for_client([GRAPH])
        self.assertEqual(answer.get("token_source"), "identity_provider", answer)
        self.assertEqual(app.acquire_token_for_client([GRAPH])["token_source"], "cache")

    def test_msal_reads_why_it_gets_no_token(self):
        world = self.world
        tenant = f"{world.authority}/{world['DEFENDER_TENANT_ID']}"
        app = msal.ConfidentialClientApplication(
            world["DEFENDER_CLIENT_ID"], client_credential="wrong", authority=tenant, instance_discovery=False
        )
        answer = app.acquire_token_for_client([GRAPH])
        self.assertEqual((answer["error"], answer["error_codes"]), ("invalid_client", [7000215]))
        with self.assertRaisesRegex(ValueError, "double check your tenant"):
            msal.ConfidentialClientApplication(
                "any", client_credential="any", authority=f"{world.authority}/nobody", instance_discovery=False
            )

    def test_azure_identity_has_tokens_for_an_app_and_for_a_managed_identity(self):
        world = self.world
        for kind in ("AZURE", "DEFENDER"):
            token = world.credential(kind).get_token(GRAPH)
            self.assertGreater(token.expires_on, time.time() + 3000)
        inside = {name: world[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        with mock.patch.dict(os.environ, inside):
            token = ManagedIdentityCredential().get_token("https://monitor.azure.com/.default")
        self.assertGreater(token.expires_on, time.time() + 3000)
        wrong = ClientSecretCredential(
            world["AZURE_TENANT_ID"],
            world["AZURE_CLIENT_ID"],
            "wrong",
            authority=world.authority,
            disable_instance_discovery=True,
        )
        with self.assertLogs("azure.identity"), self.assertRaisesRegex(ClientAuthenticationError, "AADSTS7000215"):
            wrong.get_token(GRAPH)

    def test_the_vault_gives_its_secret_to_whoever_meets_its_challenge(self):
        # A resource of the vault's own domain is asked for, port included. No resolver need know the name.
        client = SecretClient(f"https://127.0.0.1:{self.world.port}", self.world.credential())
        secret = client.get_secret("eset-password")
        self.assertEqual(secret.value, self.world["ESET_PASSWORD"])
        self.assertGreater(secret.properties.expires_on, datetime.now(UTC))
        self.assertEqual(secret.properties.vault_url, f"https://127.0.0.1:{self.world.port}")
        with self.assertRaises(ResourceNotFoundError):
            client.get_secret("nobody")


class Graph(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        trusted = cls.world.trusted()
        trusted.start()
        cls.addClassCleanup(trusted.stop)

    def ask(self, question):
        """The answer to a question of one client, which is made for it."""

        async def asked():
            provider = AzureIdentityAuthenticationProvider(
                self.world.credential("DEFENDER"), scopes=[GRAPH], allowed_hosts=["localhost"]
            )
            adapter = GraphRequestAdapter(provider)
            adapter.base_url = f"{self.world['GRAPH_URL']}/v1.0"
            return await question(GraphServiceClient(request_adapter=adapter).security)

        return asyncio.run(asked())

    def pages(self, first, builder):
        """All records of a list, which is followed to its end."""

        async def read(security):
            part = builder(security)
            page = await part.get(request_configuration=first)
            records = list(page.value)
            while page.odata_next_link:
                page = await part.with_url(page.odata_next_link).get()
                records += page.value
            return records

        return self.ask(read)

    def test_alerts_come_with_their_evidence_page_by_page(self):
        since = datetime.now(UTC) - timedelta(days=5)
        query = Alerts_v2RequestBuilder.Alerts_v2RequestBuilderGetQueryParameters(
            top=20, filter=f"lastUpdateDateTime ge {since:%Y-%m-%dT%H:%M:%SZ}"
        )
        alerts = self.pages(RequestConfiguration(query_parameters=query), lambda security: security.alerts_v2)
        self.assertGreater(len(alerts), 20)
        self.assertEqual(len({alert.id for alert in alerts}), len(alerts))
        for alert in alerts:
            self.assertGreaterEqual(alert.last_update_date_time, since.replace(microsecond=0))
            self.assertIsNotNone(alert.severity, alert.id)
        # The client knows the class of each of them by `@odata.type`.
        evidence = {type(one).__name__ for alert in alerts for one in alert.evidence}
        self.assertIn("DeviceEvidence", evidence)
        self.assertNotIn("AlertEvidence", evidence)

    def test_incidents_come_with_their_alerts(self):
        query = IncidentsRequestBuilder.IncidentsRequestBuilderGetQueryParameters(top=10, expand=["alerts"])
        incidents = self.pages(RequestConfiguration(query_parameters=query), lambda security: security.incidents)
        self.assertGreater(len(incidents), 10)
        self.assertEqual(len({incident.id for incident in incidents}), len(incidents))
        self.assertTrue(any(incident.alerts for incident in incidents))

    def test_hunting_gives_rows_with_their_schema(self):
        now = datetime.now(UTC)
        low, high = (f"datetime({time:%Y-%m-%dT%H:%M:%S.%f}0Z)" for time in (now - timedelta(hours=20), now))
        body = RunHuntingQueryPostRequestBody(
            query=f"DeviceEvents | where Timestamp >= {low} and Timestamp < {high} | take 5", timespan="P1D"
        )

        async def hunt(security):
            return await security.microsoft_graph_security_run_hunting_query.post(body)

        found = self.ask(hunt)
        columns = {column.name: column.type for column in found.schema}
        self.assertEqual(columns["Timestamp"], "DateTime")
        self.assertEqual(len(found.results), 5)
        for row in found.results:
            self.assertLessEqual(set(row.additional_data), set(columns))
            self.assertTrue(row.additional_data["DeviceId"])

    def test_a_refused_query_is_an_error_with_a_reason(self):
        async def hunt(security):
            body = RunHuntingQueryPostRequestBody(query="what is new?")
            return await security.microsoft_graph_security_run_hunting_query.post(body)

        with self.assertRaisesRegex(APIError, "recognition error"):
            self.ask(hunt)


class Ingestion(unittest.TestCase):
    """The sources disagree on what the limit of a call is measured on, so each reading is played."""

    ROWS = [{"TimeGenerated": datetime.now(UTC).isoformat(), "RawData": f"{at:0700}"} for at in range(5000)]

    def upload(self, *options):
        """Uploads the rows. Returns the errors, and what the simulator says of itself at its end."""
        world = World(*options)
        self.addCleanup(world.close)
        errors = []
        with world.trusted():
            client = LogsIngestionClient(world["LOGS_INGESTION_ENDPOINT"], world.credential())
            client.upload(
                world["DCR_IMMUTABLE_ID"],
                world["DCR_STREAM"],
                self.ROWS,
                on_error=lambda error: errors.append(error),
            )
        return errors, world.printed_at_the_end()

    def test_a_chunk_that_is_small_enough_as_it_is_sent_is_taken(self):
        for options in ((), ("--size-limit", "sent")):
            errors, printed = self.upload(*options)
            self.assertEqual(errors, [])
            self.assertIn(f"{len(self.ROWS):,} rows in 4 calls", printed)

    def test_a_chunk_that_is_too_large_once_inflated_is_refused_where_that_counts(self):
        # The client adds up its records, and forgets the commas between them.
        for limit in ("inflated", "both"):
            errors, printed = self.upload("--size-limit", limit)
            self.assertEqual([error.error.status_code for error in errors], [413] * 3)
            for error in errors:
                self.assertIsInstance(error.error, HttpResponseError)
                self.assertEqual(error.error.error.code, "ContentLengthLimitExceeded")
            landed = len(self.ROWS) - sum(len(error.failed_logs) for error in errors)
            self.assertIn(f"{landed:,} rows in 1 call,", printed)


if __name__ == "__main__":
    unittest.main()
