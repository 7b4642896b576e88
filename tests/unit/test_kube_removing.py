"""What runs left is found by label, whatever else a cluster serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from tests.unit.kube_server import Answering, serving, write_kubeconfig

VERBS = ["list", "delete"]
METADATA = {"name": "geo", "namespace": "shop", "uid": "u", "labels": {"aefm.dev/run": "r1"}}
ANSWERS: dict[str, Any] = {
    "/version": {},
    "/apis": {"groups": [{"preferredVersion": {"groupVersion": "metrics.k8s.io/v1beta1"}}]},
    "/api/v1": {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": VERBS}]},
    "/api/v1/configmaps?labelSelector=aefm.dev/run=r1": {"items": [{"metadata": METADATA}]},
}


class Handler(Answering):
    """Answers by path; all else is a server behind the API server that is away."""

    def do_GET(self) -> None:
        """Answer."""
        found = ANSWERS.get(unquote(self.path))
        self.answer(found or {}, 200 if found is not None else 503)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Return a patient connection to such a server."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        serving(server),
        connect(write_kubeconfig(tmp_path / "kubeconfig", server), patience_s=60) as made,
    ):
        yield made


def test_an_api_whose_server_is_away_is_passed_over(connection: Connection) -> None:
    """Metrics that are not served for a while do not take all patience, each time that something is looked for."""
    began = time.monotonic()
    (found,) = find_leftovers(connection, "r1")
    assert "ConfigMap geo in shop (run r1)" == str(found)
    assert time.monotonic() - began < 30
