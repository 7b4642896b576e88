"""What tests of requests to an API server share: a server that runs, and the kubeconfig by which it is reached."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Answering", "serving", "write_kubeconfig"]


class Answering(BaseHTTPRequestHandler):
    """What handlers of such servers share: JSON both ways, and no log."""

    protocol_version = "HTTP/1.1"

    def body(self) -> Any:
        """Return what was sent."""
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, content: Any, status: int = 200) -> None:
        """Answer with JSON, or with a text as it is."""
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    """Have a server answer from a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def write_kubeconfig(file: Path, server: HTTPServer, contexts: Sequence[str] = ("one",)) -> Path:
    """Write a kubeconfig whose contexts, the first of them the current one, are all of this server; return the file."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": contexts[0],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
    }
    file.write_text(yaml.safe_dump(content))
    return file
