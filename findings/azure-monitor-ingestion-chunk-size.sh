#!/usr/bin/env bash
# azure-monitor-ingestion 1.1.0 (PyPI)
# Expected: `upload` "divides a list of logs into chunks of 1MB or less" (its documentation), 1,048,576 bytes.
# Seen:     a chunk is larger, since it adds up the records without the separators between them: 1,051,982 bytes
#           of JSON for the first chunk of 5,000 records of 591 bytes.
# Matters:  a receiver that applies the limit to inflated bytes, as the documentation of the Logs Ingestion API
#           reads, answers 413. Ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp --directory)
trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check azure-monitor-ingestion==1.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import gzip
import json

from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import HttpTransport, RequestsTransport
from azure.monitor.ingestion import LogsIngestionClient

sizes = []


class Credential:
    def get_token(self, *scopes, **_):
        return AccessToken("token", 9_999_999_999)


class Recorder(RequestsTransport):
    """Takes a note of each body, and answers 204 without a network."""

    def send(self, request, **_):
        sizes.append(len(gzip.decompress(request.content)))
        return Taken(request)


class Taken:
    status_code, reason, headers, content_type = 204, "No Content", {}, None

    def __init__(self, request):
        self.request = request

    def read(self):
        return b""

    def body(self):
        return b""

    def text(self, encoding=None):
        return ""

    def close(self):
        pass


rows = [{"TimeGenerated": "2026-01-01T00:00:00Z", "RawData": "x" * 535} for _ in range(5000)]
LogsIngestionClient("https://localhost", Credential(), transport=Recorder()).upload("dcr-1", "Custom-A", rows)
print("bytes of each chunk:", *(f"{size:,}" for size in sizes))
assert max(sizes) > 1_048_576, "no chunk is larger than 1 MiB any more"
PYTHON
