"""Several requests in one text: each is counted, each has the time at which the first one was due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Exchange

Make = Callable[..., Any]
THREE = (
    "function init()\n"
    "  local r = {}\n"
    "  for i, name in ipairs({ 'first', 'second', 'third' }) do r[i] = wrk.format(nil, '/' .. name) end\n"
    "  all = table.concat(r)\n"
    "end\n"
    "function request() return all end\n"
)
TAGS = [f"--tag-path={name}=/{name}" for name in ("first", "second", "third")]


def test_each_response_counts(serve: Make, wrk: Make, script: Make) -> None:
    """The rate is of requests, not of batches, and every one of them has its outcome."""
    server = serve()
    report = wrk("-t2", "-c4", "-R60", "-d1s", "-s", script(THREE), *TAGS, server.url).report
    assert {"success": 60} == report["outcomes"]
    assert 60 == report["sent"] == server.seen
    assert {20} == {tag["successes"] for tag in report["tags"].values()}
    assert ["GET /first HTTP/1.1", "GET /second HTTP/1.1", "GET /third HTTP/1.1"] == sorted(set(server.lines))


def test_latency_runs_from_when_the_batch_was_due(serve: Make, wrk: Make, script: Make) -> None:
    """What waits behind another response waits on the server, and that is its latency."""
    server = serve(lambda exchange: (exchange.wait(0.02), exchange.answer()))
    report = wrk("-t1", "-c8", "-R30", "-d1s", "-s", script(THREE), *TAGS, server.url).report
    least = [report["tags"][name]["latency"]["success"]["min_us"] for name in ("first", "second", "third")]
    assert 30 == report["successes"]
    assert [20_000, 40_000, 60_000] < least


def test_batches_leave_whole(serve: Make, wrk: Make, script: Make) -> None:
    """A server that answers only once it has read all three is waited for by nobody."""
    held: list[Exchange] = []

    def behave(exchange: Exchange) -> None:
        held.append(exchange)
        if exchange.line.startswith("GET /third"):
            for one in held:
                one.answer(body=one.line.encode())
            held.clear()

    run = wrk("-t1", "-c1", "-R30", "-d1s", "-s", script(THREE), serve(behave).url)
    assert {"success": 30} == run.report["outcomes"]


def test_what_does_not_divide_is_sent_whole(serve: Make, wrk: Make, script: Make) -> None:
    """The batch that began in the window belongs to it; no slot of the schedule is used twice."""
    server = serve()
    report = wrk("-t1", "-c4", "-R50", "-d1s", "--warmup", "500ms", "-s", script(THREE), server.url).report
    assert 75 == server.seen  # of the 25 slots of the warm-up, the last takes two of the window's along
    assert 48 == report["offered"] == report["successes"]


def test_batches_may_differ(serve: Make, wrk: Make, script: Make) -> None:
    """Each call of request() decides anew; a HEAD among them has no body."""
    server = serve(
        lambda exchange: (
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            if exchange.line.startswith("HEAD")
            else exchange.answer()
        )
    )
    path = script(
        "local n = 0\n"
        "function request()\n"
        "  n = n + 1\n"
        "  if n % 2 == 0 then return wrk.format('GET', '/single') end\n"
        "  return wrk.format('HEAD', '/head') .. wrk.format('POST', '/post', nil, 'body') .. wrk.format()\n"
        "end"
    )
    report = wrk("-t1", "-c4", "-R40", "-d1s", "-s", path, server.url).report
    assert {"success": 40} == report["outcomes"]
    assert (10, 10) == (server.lines.count("HEAD /head HTTP/1.1"), server.lines.count("GET /single HTTP/1.1"))


@pytest.mark.parametrize(
    ("second", "outcomes"),
    [
        (lambda exchange: exchange.reset(), {"success": 10, "read_error": 20}),
        (lambda exchange: exchange.send(b"HTTP/1.1 OK\r\n\r\n"), {"success": 10, "malformed": 10, "read_error": 10}),
        (lambda exchange: exchange.answer(headers="Connection: close\r\n"), {"success": 20, "read_error": 10}),
        (lambda exchange: exchange.wait(60), {"success": 10, "timeout": 20}),
    ],
    ids=["reset", "malformed", "close", "silence"],
)
def test_one_that_breaks_takes_those_behind_it_along(
    serve: Make, wrk: Make, script: Make, second: Callable[[Exchange], None], outcomes: dict[str, int]
) -> None:
    """What has been answered counts as such, the rest of the batch has an outcome of its own."""
    server = serve(lambda exchange: second(exchange) if "/second" in exchange.line else exchange.answer())
    report = wrk("-t1", "-c10", "-R30", "-d1s", "--timeout", "500ms", "-s", script(THREE), server.url).report
    assert outcomes == report["outcomes"]


def test_response_is_called_for_each(serve: Make, wrk: Make, script: Make) -> None:
    """`response` sees every answer of a batch, and judges it alone."""
    server = serve(lambda exchange: exchange.answer(body=exchange.line.encode()))
    path = script(f"{THREE}function response(status, headers, body) return not body:find('second') end")
    report = wrk("-t1", "-c4", "-R30", "-d1s", "-s", path, server.url).report
    assert {"success": 20, "mismatch": 10} == report["outcomes"]


def test_a_backlog_of_batches_adds_up(serve: Make, wrk: Make, script: Make) -> None:
    """Slots that wait are used up by a batch as well as those to come."""
    server = serve(lambda exchange: (exchange.wait(0.02), exchange.answer()))
    report = wrk("-t1", "-c1", "-R120", "-d1s", "-s", script(THREE), server.url).report
    outcomes = report["outcomes"]
    assert outcomes["unsent"] > 0
    assert 0 == outcomes["success"] % 3
    assert outcomes["success"] + outcomes["unsent"] in (120, 121, 122)


def test_more_than_requests_is_an_error(wrk: Make, script: Make) -> None:
    """A body without Content-Length is told from a second request."""
    path = script("function request() return wrk.format() .. 'a=1' end")
    run = wrk("-R1", "--check", "-s", path, "http://nosuch.invalid", status=2)
    message = "script.lua:1: request() returned more than its requests: a body without Content-Length?\n"
    assert run.stderr.endswith(message)
