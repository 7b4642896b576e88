"""wrk's Lua interface: the functions, the errors with file and line, the same requests for the same seed."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
HOTEL = sorted((ROOT / "lua/hotel").glob("*.lua"))
QUICK = ("-t1", "-c4", "-R50", "-d1s")


def test_request_makes_each_request(serve: Make, wrk: Make, script: Make) -> None:
    """`request` is called once per request, with wrk.format's defaults filled in."""
    server = serve()
    path = script("local n = 0\nfunction request() n = n + 1; return wrk.format('GET', '/' .. n) end")
    wrk(*QUICK, "-s", path, "-H", "X-A: b c", f"{server.url}/ignored")
    assert [f"GET /{n} HTTP/1.1" for n in range(1, 51)] == sorted(server.lines, key=lambda line: int(line[5:-9]))
    assert (f"127.0.0.1:{server.port}", "b c") == (
        server.exchanges[0].header("Host"),
        server.exchanges[0].header("X-A"),
    )


def test_globals_of_wrk_shape_the_fixed_request(serve: Make, wrk: Make, script: Make) -> None:
    """Without `request`, wrk.method, body, headers and the URL's path make the one request."""
    server = serve()
    path = script("wrk.method = 'POST'\nwrk.body = 'a=1'\nwrk.headers['Content-Type'] = 'text/plain'")
    wrk(*QUICK, "-s", path, f"{server.url}/p?q=1")
    first = server.exchanges[0]
    assert ("POST /p?q=1 HTTP/1.1", b"a=1", "text/plain") == (first.line, first.body, first.header("Content-Type"))
    assert 50 == server.seen


def test_absolute_urls_are_sent_in_origin_form_to_the_target(serve: Make, wrk: Make, script: Make) -> None:
    """`http://localhost:5000/hotels?...` in a script asks the target for /hotels, with the target's Host."""
    server = serve()
    path = script("function request() return wrk.format('GET', 'http://localhost:5000/hotels?a=b') end")
    wrk(*QUICK, "-s", path, server.url)
    assert {"GET /hotels?a=b HTTP/1.1"} == set(server.lines)
    assert {f"127.0.0.1:{server.port}"} == {exchange.header("Host") for exchange in server.exchanges}


def test_head_requests_expect_no_body(serve: Make, wrk: Make, script: Make) -> None:
    """A response to HEAD ends with its head, whatever its Content-Length says."""
    server = serve(lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
    assert 50 == wrk(*QUICK, "-s", script("wrk.method = 'HEAD'"), server.url).count("success")


def test_response_sees_and_judges(serve: Make, wrk: Make, script: Make) -> None:
    """`response` gets status, headers and body; true overrides a bad status, false a good one."""
    server = serve(lambda exchange: exchange.answer([200, 500, 404][exchange.number % 3], b"body", "X-Token: t\r\n"))
    path = script(
        "function response(status, headers, body)\n"
        "  assert(headers['X-Token'] == 't' and body == 'body', 'not what was sent')\n"
        "  if status == 500 then return true end\n"
        "  if status == 200 then return false end\n"
        "end"
    )
    report = wrk("-t1", "-c1", "-R60", "-d1s", "-s", path, server.url).report
    assert {"success": 20, "mismatch": 20, "4xx": 20} == report["outcomes"]


def test_setup_init_and_done_exchange_values(serve: Make, wrk: Make, script: Make) -> None:
    """Threads have their own globals, reached by thread:get and set; done gets summary and statistics."""
    server = serve()
    path = script(
        "local threads = {}\n"
        "function setup(thread)\n"
        "  threads[#threads + 1] = thread\n"
        "  thread:set('id', #threads)\n"
        "  thread:set('nested', { list = { 1, 2 }, flag = true })\n"
        "end\n"
        "function init(args)\n"
        "  count, first, url = 0, args[1], args[0]\n"
        "  assert(nested.list[2] == 2 and nested.flag == true)\n"
        "end\n"
        "function response() count = count + 1 end\n"
        "function done(summary, latency, requests)\n"
        "  local sum = 0\n"
        "  for _, t in ipairs(threads) do sum = sum + t:get('count') end\n"
        "  print('ids', threads[1]:get('id'), threads[2]:get('id'), threads[1]:get('first'))\n"
        "  print('sum', sum, summary.requests, summary.errors.status, tostring(threads[1].addr))\n"
        "  local total = 0\n"
        "  for i = 1, #latency do local _, n = latency(i); total = total + n end\n"
        "  print('total', total, latency:percentile(50) <= latency.max, latency.min <= latency.mean, requests.max)\n"
        "end\n"
    )
    out = wrk("-t2", "-c4", "-R50", "-d1s", "-s", path, server.url, "--", "hello").stdout
    assert "ids\t1\t2\thello" in out
    assert f"sum\t50\t50\t0\t127.0.0.1:{server.port}" in out
    assert "total\t50\ttrue\ttrue\t25" in out


def test_delay_shifts_the_intended_time(serve: Make, wrk: Make, script: Make) -> None:
    """delay() moves a request within the schedule: it is not latency, and nothing is lost or doubled."""
    server = serve()
    path = script("local n = 0\nfunction delay() n = n + 1; return n % 2 * 150 end")
    report = wrk("-t1", "-c4", "-R20", "-d2s", "--warmup", "500ms", "-s", path, server.url).report
    assert report["offered"] == report["successes"]
    assert abs(report["offered"] - 40) <= 3
    assert report["latency"]["success"]["p50_us"] < 100_000


def test_thread_stop_ends_the_thread(serve: Make, wrk: Make, script: Make) -> None:
    """thread:stop() ends a run early; the report says so and adds up."""
    server = serve()
    path = script("local n = 0\nfunction response() n = n + 1; if n == 10 then wrk.thread:stop() end end")
    report = wrk("-t1", "-c1", "-R100", "-d30s", "-s", path, server.url).report
    assert report["interrupted"] is True
    assert 10 == report["successes"]


def test_require_socket_is_built_in(serve: Make, wrk: Make, script: Make) -> None:
    """Scripts that want luasocket's clock get one."""
    server = serve()
    path = script(
        "local socket = require('socket')\n"
        "math.randomseed(socket.gettime() * 1000)\n"
        "function init() local t = socket.gettime(); socket.sleep(0.01); assert(socket.gettime() - t >= 0.009) end"
    )
    assert 50 == wrk(*QUICK, "-s", path, server.url).count("success")


@pytest.mark.parametrize("name", HOTEL, ids=lambda path: path.stem)
def test_a_seed_makes_requests_reproducible(serve: Make, wrk: Make, script: Make, name: Path) -> None:
    """The same seed sends the same requests from each thread, even if the script seeds by the clock."""
    runs = []
    reseeding = script(f"math.randomseed(os.time())\nmath.randomseed({id(name)})\n{name.read_text()}")
    for seed, path in ((7, name), (7, reseeding), (8, name)):
        server = serve()
        wrk("-t2", "-c4", "-R100", "-d1s", "--seed", seed, "-s", path, server.url)
        runs.append(sorted(server.lines))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


SHARES: dict[str, dict[str, tuple[float, float]]] = {
    "search": {"search": (1, 1)},
    "recommendation": {"dis": (0.28, 0.38), "rate": (0.28, 0.38), "price": (0.29, 0.39)},
    "login": {"login": (1, 1)},
    "reserve": {"reserve": (1, 1)},
    "mixed-workload_type_1": {
        "search": (0.55, 0.65),
        **dict.fromkeys(("dis", "rate", "price"), (0.1, 0.16)),
        **dict.fromkeys(("login", "reserve"), (0.0005, 0.02)),
    },
}
"""What each script of the hotel sends: kinds of requests, each with its least and largest share."""


def kind_of(line: str) -> str:
    """Return the kind of a hotel's request, once every value in it is found to be one that the application knows."""
    method, target, _ = line.split(" ")
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, strict_parsing=True))
    place, stay, user = {"lat", "lon"}, {"inDate", "outDate"}, {"username", "password"}
    wanted = {
        "/hotels": ("GET", stay | place),
        "/recommendations": ("GET", place | {"require"}),
        "/user": ("POST", user),
        "/reservation": ("POST", stay | user | {"hotelId", "customerName", "number"}),
    }
    assert wanted[url.path] == (method, set(query)), line
    if "lat" in query:
        assert 37.78 <= float(query["lat"]) <= 38.27, line
        assert -122.26 <= float(query["lon"]) <= -121.92, line
    if "inDate" in query:
        first, last = (date.fromisoformat(query[name]) for name in ("inDate", "outDate"))
        latest = first + timedelta(5) if url.path == "/reservation" else date(2015, 4, 24)
        assert date(2015, 4, 9) <= first <= date(2015, 4, 23), line
        assert first < last <= latest, line
    if "username" in query:
        number = query["username"].removeprefix("Cornell_")
        assert 0 <= int(number) <= 500, line
        assert number * 10 == query["password"], line
    if "hotelId" in query:
        assert 1 <= int(query["hotelId"]) <= 80, line
        assert (query["username"], "1") == (query["customerName"], query["number"]), line
    kinds = {"/hotels": "search", "/user": "login", "/reservation": "reserve"}
    return kinds.get(url.path) or query["require"]


@pytest.mark.parametrize("name", HOTEL, ids=lambda path: path.stem)
def test_hotel_scripts_stay_in_the_value_ranges(serve: Make, wrk: Make, name: Path) -> None:
    """Every request is one that the application understands, each kind in its share."""
    server = serve()
    wrk("-t1", "-c32", "-R2000", "-d1s", "--seed", 1, "-s", name, server.url)
    counts = Counter(map(kind_of, server.lines))
    expected = SHARES[name.stem]
    assert expected.keys() == counts.keys()
    assert counts.total() > 1000  # on a busy machine some of the 2,000 are not sent
    for kind, (least, most) in expected.items():
        assert least <= counts[kind] / counts.total() <= most, kind


ERRORS = {
    "syntax": ("x = = 2", "script.lua:1: unexpected symbol near '='"),
    "init": ("function init()\n  error('no')\nend", "script.lua:2: no"),
    "nil": ("function request()\n  local t\n  return t.x\nend", "script.lua:3: attempt to index local 't'"),
    "no string": ("\nfunction request() return 5 end", "script.lua:2: request() returned no string but number"),
    "not http": ("function request() return 'hi' end", "script.lua:1: request() returned an incomplete request"),
    "in wrk.format": ("function request()\n  return wrk.format('GET', {})\nend", "script.lua:1: invalid value (table)"),
    "no table": ("function init() error({}) end", "script.lua:1: error object is a table value"),
}


@pytest.mark.parametrize("case", ERRORS, ids=lambda name: name.replace(" ", "-"))
def test_check_names_file_and_line(engine: Path, script: Make, case: str) -> None:
    """--check finds a script's error without any network: exit 2, file and line first."""
    text, message = ERRORS[case]
    path = script(text)
    done = subprocess.run([engine, "--check", "-s", path, "http://nosuch.invalid"], capture_output=True, text=True)
    assert (2, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize("name", HOTEL, ids=lambda path: path.stem)
def test_check_of_a_good_script_is_silent(engine: Path, name: Path) -> None:
    """A script without errors passes --check with nothing printed."""
    done = subprocess.run([engine, "--check", "-s", name, "http://nosuch.invalid"], capture_output=True, text=True)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_check_wants_functions(engine: Path, script: Make) -> None:
    """delay or response that is no function is an error of --check."""
    done = subprocess.run([engine, "--check", "-s", script("delay = 5"), "http://h"], capture_output=True, text=True)
    assert 2 == done.returncode
    assert "expected the global 'delay' to be a function, got a number" in done.stderr


@pytest.mark.parametrize("function", ["request", "response", "delay", "done"])
def test_an_error_in_the_run_ends_it(serve: Make, engine: Path, script: Make, function: str) -> None:
    """A Lua error while the load runs stops it with file and line, and exit 2."""
    path = script(
        f"local n = 0\nfunction {function}()\n  n = n + 1\n"
        f"  if n == 7 or {function} == done then error('late') end\n"
        f"  return {'wrk.format()' if function == 'request' else '0'}\nend"
    )
    command = [engine, "-t1", "-c2", "-R50", "-d2s" if function == "done" else "-d30s", "-s", path, serve().url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert 2 == done.returncode
    assert "script.lua:4: late" in done.stderr


def test_text_looks_like_that_of_wrk2(serve: Make, wrk: Make) -> None:
    """The lines that parsers of wrk2 look for are there, and the spectrum ends at 100 %."""
    out = wrk(*QUICK, "-L", "-U", serve().url).stdout
    assert re.search(r"^Running 1s test @ http://127\.0\.0\.1:\d+\n  1 threads and 4 connections$", out, re.M)
    assert re.search(r"^  Thread Stats   Avg      Stdev     Max   \+/- Stdev$", out, re.M)
    assert re.search(r"^    Latency +[\d.]+(us|ms|s) +[\d.]+(us|ms|s) +[\d.]+(us|ms|s) +[\d.]+%$", out, re.M)
    assert re.search(r"^    Req/Sec +50\.00 +0\.00 +50\.00 +100\.00%$", out, re.M)
    assert "  Latency Distribution (HdrHistogram - Recorded Latency)" in out
    assert "  Latency Distribution (HdrHistogram - Uncorrected Latency (measured without" in out
    assert re.search(r"^ 99\.000% +[\d.]+(us|ms|s)$", out, re.M)
    assert re.search(r"^ +[\d.]+ +1\.000000 +50 +inf$", out, re.M)
    assert re.search(r"^#\[Max     = +[\d.]+, Total count    = +50\]$", out, re.M)
    assert re.search(r"^  50 requests in 1\.00s, [\d.]+KB read$", out, re.M)
    assert re.search(r"^Requests/sec: +50\.00$", out, re.M)
    assert re.search(r"^Transfer/sec: +[\d.]+KB$", out, re.M)


def test_json_on_standard_output_stands_alone(serve: Make, engine: Path) -> None:
    """--json - prints the one JSON document and no text."""
    done = subprocess.run([engine, *QUICK, "--json", "-", serve().url], capture_output=True, text=True)
    assert done.stdout.startswith('{"schema":2,')
    assert 1 == len(done.stdout.splitlines())
