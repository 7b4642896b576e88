"""pytest-html: its page says what a verdict says."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.neighbours.conftest import Beside
    from tests.plugin.conftest import ExperimentFolder


def rows(page: str) -> dict[str, list[Any]]:
    """Return the tests that a page shows: their entries by id."""
    data = re.search(r'data-jsonblob="([^"]*)"', page)
    assert data
    tests = json.loads(html.unescape(data[1]))["tests"]
    assert isinstance(tests, dict)
    return tests


def test_page_has_the_first_line(folder: ExperimentFolder, beside: Beside) -> None:
    """A violated and a broken case stand there once, with the message's first line; messages of ours are no tests."""
    folder.use("disturb")
    folder.test('cpu=[0, 1], slos=["p95 < 1us"]')
    beside("html", "--html=page.html", "--self-contained-html").assert_outcomes(failed=1, errors=1)
    found = rows((folder.path / "page.html").read_text())
    results = {name.partition("::")[2]: [entry["result"] for entry in entries] for name, entries in found.items()}
    assert {"test_it[shop-cpu0-200rps]": ["Failed"], "test_it[shop-cpu1-200rps]": ["Error"]} == {
        name: kept for name, kept in results.items() if kept
    }
    logs = "".join(html.unescape(entry["log"]) for entries in found.values() for entry in entries)
    assert re.search(r"SLOViolated: p95 1\d\d ms, limit < 0.001 ms", logs)
    assert "InterferenceError: cpu: stress-ng did not start" in logs


def test_page_names_an_invalid_case(folder: ExperimentFolder, beside: Beside) -> None:
    """An invalid case is named as such, with the self-check that failed."""
    folder.use("steal")
    folder.test()
    beside("html", "--html=page.html", "--self-contained-html").assert_outcomes(errors=1)
    (entries,) = rows((folder.path / "page.html").read_text()).values()
    assert ["InvalidMeasurement: a hypervisor took 20% of a used core, limit 10%"] == [
        match
        for entry in entries
        for match in re.findall(r"InvalidMeasurement: .*limit 10%", html.unescape(entry["log"]))
    ][:1]
