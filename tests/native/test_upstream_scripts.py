"""Scripts that come with wrk2 and DeathStarBench run unmodified: AEFM_TEST_SCRIPTS names checkouts, as PATH does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]
_NAMED = os.environ.get("AEFM_TEST_SCRIPTS", "")
_SCRIPTS = [
    script
    for folder in map(Path, filter(None, _NAMED.split(os.pathsep)))
    for script in sorted(folder.rglob("*.lua"))
    if "scripts" in script.parts and {"wrk", "wrk2"} & set(script.parts)
]
_MISSING = pytest.mark.skip("no upstream scripts: name checkouts of wrk2 or DeathStarBench in AEFM_TEST_SCRIPTS")


@pytest.mark.parametrize("path", _SCRIPTS or [pytest.param(Path("none"), marks=_MISSING)], ids=str)
def test_a_script_runs_unmodified(
    serve: Make, wrk: Make, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is a success, in origin form, and is what the server saw; `stop.lua` ends after 100 of them."""
    monkeypatch.chdir(tmp_path)
    Path("paths.txt").write_text("/a\n/b\n")  # multiplepaths.lua reads it
    server = serve(lambda exchange: exchange.answer(headers="X-Token: t\r\n"))
    report = wrk("-t1", "-c8", "-R200", "-d1s", "-s", path, server.url).report
    stops = path.name == "stop.lua"
    assert report["successes"] >= (100 if stops else 200)
    assert report["interrupted"] is stops
    assert stops or {"success": report["successes"]} == report["outcomes"]
    assert stops or report["successes"] == server.seen
    assert [] == [line for line in server.lines if not re.match(r"(GET|POST) /[!-~]* HTTP/1\.1$", line)]
