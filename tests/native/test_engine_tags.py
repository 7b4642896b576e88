"""Tags: one account per endpoint, named by the script or by method and path; together they are the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]
QUICK = ("-t1", "-c4", "-R60", "-d1s")
ROTATE = """
local n = 0
function request()
  n = n + 1
  if n % 3 == 0 then wrk.tag("search") end
  if n % 3 == 1 then wrk.tag("login") end
  return wrk.format("GET", "/" .. (n % 3))
end
"""


def check_tags(report: dict[str, Any]) -> None:
    """Check that tags add up, each for itself and together, outcome by outcome."""
    together: Counter[str] = Counter()
    for tag in report["tags"].values():
        assert tag["offered"] == sum(tag["outcomes"].values())
        assert {name: value["count"] for name, value in tag["latency"].items()} == tag["outcomes"]
        together.update(tag["outcomes"])
    assert together == Counter(report["outcomes"])
    for field in ("sent", "attempted", "achieved", "successes", "bytes_read", "bytes_written"):
        assert report[field] == sum(tag[field] for tag in report["tags"].values())


def test_without_tags_there_are_none(serve: Make, wrk: Make) -> None:
    """Nobody named a request: nothing is listed."""
    assert {} == wrk(*QUICK, serve().url).report["tags"]


def test_a_script_names_its_requests(serve: Make, wrk: Make, script: Make) -> None:
    """wrk.tag() in request() is about that request; one that was not named is untagged."""
    server = serve(lambda exchange: exchange.answer(503 if exchange.line.startswith("GET /1") else 200))
    report = wrk(*QUICK, "-s", script(ROTATE), server.url).report
    check_tags(report)
    outcomes = {name: tag["outcomes"] for name, tag in report["tags"].items()}
    assert {"search": {"success": 20}, "login": {"success": 0, "5xx": 20}, "untagged": {"success": 20}} == outcomes


def test_a_name_outside_request_stands(serve: Make, wrk: Make, script: Make) -> None:
    """Said in init() or response(), it is for all later requests that are not named; earlier ones stay untagged."""
    path = script("local n = 0\nfunction response() n = n + 1; if n == 10 then wrk.tag('warm') end end")
    report = wrk("-t1", "-c1", "-R60", "-d1s", "-s", path, serve().url).report
    check_tags(report)
    assert 10 <= report["tags"]["untagged"]["offered"] <= 60 - report["tags"]["warm"]["offered"]
    report = wrk(*QUICK, "-s", script("function init() wrk.tag('all') end"), serve().url).report
    assert ["all"] == list(report["tags"])
    assert 60 == report["tags"]["all"]["offered"]


def test_paths_are_named_by_rules(serve: Make, wrk: Make, script: Make) -> None:
    """--tag-path takes the first rule that fits, also for absolute URLs; wrk.tag() comes before; unused names show."""
    path = script(
        "local n, urls = 0, { '/hotels?a=b', 'http://other:1/user/7/posts', '/user/8/posts', '/else' }\n"
        "function request()\n"
        "  n = n + 1\n"
        "  if n % 4 == 3 then wrk.tag('mine') end\n"
        "  return wrk.format(n % 4 == 2 and 'POST' or 'GET', urls[n % 4 + 1])\n"
        "end\n"
    )
    rules = ("hotels=/hotels", "posts=GET /user/*/posts", "written=/user/**", "rest=GET /els*", "never=PUT /**")
    report = wrk(*QUICK, *(word for rule in rules for word in ("--tag-path", rule)), "-s", path, serve().url).report
    check_tags(report)
    assert {"hotels": 15, "posts": 15, "written": 15, "rest": 0, "never": 0, "mine": 15} == {
        name: tag["offered"] for name, tag in report["tags"].items()
    }


def test_requests_that_were_never_sent_have_tags(serve: Make, wrk: Make, script: Make) -> None:
    """What is unsent or could not be connected is of the tag that it would have had."""
    silent = serve(lambda exchange: exchange.wait(60))
    report = wrk("-t1", "-c1", "-R60", "-d1s", "--timeout", "5s", "-s", script(ROTATE), silent.url).report
    check_tags(report)
    assert 59 == report["outcomes"]["unsent"]
    assert [20, 20, 20] == [report["tags"][name]["offered"] for name in ("login", "search", "untagged")]
    servers: list[Any] = []
    server = serve(lambda exchange: exchange.answer() if exchange.number < 9 else servers[0].die())
    servers.append(server)
    report = wrk(*QUICK, "-s", script(ROTATE), server.url).report
    check_tags(report)
    assert report["tags"]["search"]["outcomes"]["connect_error"] >= 10


def test_threads_share_names(serve: Make, wrk: Make, script: Make) -> None:
    """A tag's account is that of all threads."""
    report = wrk("-t2", "-c4", "-R60", "-d1s", "-s", script(ROTATE), serve().url).report
    check_tags(report)
    assert {"login": 20, "search": 20, "untagged": 20} == {
        name: tag["offered"] for name, tag in sorted(report["tags"].items())
    }


@pytest.mark.parametrize("name", ["''", "('x'):rep(65)", "'a\\nb'", "{}"])
def test_names_are_short_and_printable(wrk: Make, script: Make, name: str) -> None:
    """What is no name is the script's error, with file and line."""
    path = script(f"function init()\n  wrk.tag({name})\nend")
    assert "script.lua:2: " in wrk("--check", "-s", path, "http://h", status=2).stderr


def test_a_bad_rule_is_refused(wrk: Make) -> None:
    """A usage error says what a rule looks like."""
    said = wrk("-R1", "--tag-path", "search", "http://h", status=1).stderr
    assert "aefm-wrk: --tag-path: expected 'NAME=/pattern' or 'NAME=METHOD /pattern', got 'search'\n" == said
