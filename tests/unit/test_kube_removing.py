"""What runs left is found by label, whatever else a cluster serves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers

VERBS = ["list", "delete"]
METADATA = {"name": "geo", "namespace": "shop", "uid": "u", "labels": {"aefm.dev/run": "r1"}}
ANSWERS: dict[str, Any] = {
    "/version": {},
    "/apis": {"groups": [{"preferredVersion": {"groupVersion": "metrics.k8s.io/v1beta1"}}]},
    "/api/v1": {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": VERBS}]},
    "/api/v1/configmaps?labelSelector=aefm.dev/run=r1": {"items": [{"metadata": METADATA}]},
}


class Handler(BaseHTTPRequestHandler):
    """Answers by path; all else is a server behind the API server that is away."""

    def do_GET(self) -> None:
        """Answer."""
        found = ANSWERS.get(unquote(self.path))
        self.send_response(200 if found is not None else 503)
        self.end_headers()
        self.wfile.write(json.dumps(found or {}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Return a patient connection to such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        one = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
        config: dict[str, Any] = {
            "clusters": [{"name": "c", "cluster": one}],
            "users": [{"name": "u", "user": {"token": "x"}}],
        }
        context = {"name": "a", "context": {"cluster": "c", "user": "u"}}
        config |= {"apiVersion": "v1", "kind": "Config", "current-context": "a", "contexts": [context]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        with connect(tmp_path / "kubeconfig", patience_s=60) as made:
            yield made
        server.shutdown()
        thread.join()


def test_an_api_whose_server_is_away_is_passed_over(connection: Connection) -> None:
    """Metrics that are not served for a while do not take all patience, each time that something is looked for."""
    began = time.monotonic()
    (found,) = find_leftovers(connection, "r1")
    assert "ConfigMap geo in shop (run r1)" == str(found)
    assert time.monotonic() - began < 30
