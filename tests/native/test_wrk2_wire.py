"""The same script through wrk2 and aefm-wrk puts the same requests on the wire: AEFM_TEST_WRK2 names wrk2's program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Exchange

Make = Callable[..., Any]
_NAMED = os.environ.get("AEFM_TEST_WRK2") or shutil.which("wrk2") or ""
_MISSING = pytest.mark.skip("no wrk2: build it and name it in AEFM_TEST_WRK2, or put it on PATH")
COMPARED = 30

SCRIPTS = {
    "no script": "",
    "globals": "wrk.method = 'POST'\nwrk.body = 'a=1&b=2'\nwrk.headers['Content-Type'] = 'text/plain'",
    "counter": (
        "local n = 0\n"
        "function request()\n"
        "  n = n + 1\n"
        "  wrk.headers['X-Counter'] = n\n"
        "  return wrk.format(n % 3 == 0 and 'PUT' or nil, '/' .. n, nil, n % 2 == 0 and ('b'):rep(n) or nil)\n"
        "end"
    ),
    "own headers": "function request() return wrk.format('GET', '/x?y=%20', { Accept = '*/*', Host = 'shop' }) end",
    "own text": "function request() return 'DELETE /i HTTP/1.1\\r\\nhost: h\\r\\nContent-Length: 2\\r\\n\\r\\nok' end",
    "random": "math.randomseed(7)\nfunction request() return wrk.format('GET', '/' .. math.random(1000000)) end",
    "arguments": "function init(args) word = args[1] end\nfunction request() return wrk.format('GET', '/' .. word) end",
    "pipelined": (
        "function request()\n"
        "  return wrk.format('GET', '/a') .. wrk.format('POST', '/b', nil, 'body') .. wrk.format('GET', '/c')\n"
        "end"
    ),
    "answers": (
        "local last = 'none'\n"
        "function request() return wrk.format('GET', '/' .. last) end\n"
        "function response(status, headers, body) last = status .. headers['X-Number'] .. body end"
    ),
}


def comparable(exchange: Exchange, port: int) -> tuple[str, list[str], bytes]:
    """Return what makes a request: its line, its headers in whatever order and to whatever port, and its body."""
    line, *headers = exchange.head.replace(f":{port}", ":PORT").split("\r\n")
    return line, sorted(headers), exchange.body


@pytest.mark.parametrize("wrk2", _NAMED.split(os.pathsep) if _NAMED else [pytest.param("", marks=_MISSING)])
@pytest.mark.parametrize("name", SCRIPTS, ids=lambda name: name.replace(" ", "-"))
def test_requests_are_the_same(serve: Make, engine: Path, script: Make, name: str, wrk2: str) -> None:
    """Line, headers and body of each, in order; wrk2 calls request() once more before it starts."""
    path, sent = script(SCRIPTS[name]), []
    for program in (wrk2, str(engine)):
        answered = [0]

        def behave(exchange: Exchange, answered: list[int] = answered) -> None:
            answered[0] += 1
            exchange.answer(body=b"x" * (answered[0] % 3), headers=f"X-Number: {answered[0] % 5}\r\n")

        server = serve(behave)
        url = f"http://127.0.0.1:{server.port}/path?q=1"
        command = [program, "-t1", "-c1", "-R60", "-d2s", "-H", "X-Given: a b", "-s", path, url, "--", "word"]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode in (0, 5)
        sent.append([comparable(exchange, server.port) for exchange in server.exchanges])
    theirs, ours = sent
    early = 1 if name in ("counter", "random") else 0
    assert theirs[:COMPARED] == ours[early : early + COMPARED]
    assert COMPARED == len(ours[early : early + COMPARED])
