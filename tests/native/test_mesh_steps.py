"""What the steps of a service do, beside peers with scripted behaviour."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.native.conftest import Exchange, eventually, mesh_service

Make = Callable[..., Any]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def call(path: str = "/y", method: str = "GET", **more: object) -> dict[str, Any]:
    """Return a step that calls the peer ``back``."""
    return {"call": {"service": "back", "method": method, "path": path, "forward_query": False, **more}}


def endpoint(path: str, *steps: object, parameters: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an endpoint GET ``path``."""
    return {"method": "GET", "path": path, "parameters": parameters, "response_bytes": 2, "steps": steps}


def back(*servers: Any, **more: object) -> dict[str, Any]:
    """Return the peers of a service that calls ``back``."""
    return {"back": {"urls": [server.url for server in servers], **more}}


def failing(times: int) -> Callable[[Exchange], None]:
    """Return a behaviour that answers 500 so many times, then 200."""
    return lambda exchange: exchange.answer(500 if exchange.number < times else 200)


RETRIES = {"attempts": 3, "backoff_ms": 1, "backoff_max_ms": 2}


def test_a_failed_call_is_tried_again(serve: Make, mesh: Make) -> None:
    """Until it succeeds, as often as the file says."""
    peer = serve(failing(3))
    server = mesh(mesh_service(call(retries=RETRIES), peers=back(peer)))
    assert 200 == server.request()[0]
    assert 4 == peer.seen


def test_retries_end(serve: Make, mesh: Make) -> None:
    """The last failure is the request's."""
    peer = serve(failing(99))
    server = mesh(mesh_service(call(retries=RETRIES), peers=back(peer)))
    assert (502, "call of back failed: GET /y: status 500") == server.error()
    assert 4 == peer.seen


def test_a_budget_bounds_retries(serve: Make, mesh: Make) -> None:
    """A share of the first attempts, and ten more: 20 calls, 20 + 10 + 2 attempts."""
    peer = serve(failing(999))
    server = mesh(mesh_service(call(retries=RETRIES), peers=back(peer, retry_budget=0.1)))
    for _ in range(20):
        assert 502 == server.request()[0]
    assert 32 == peer.seen


def test_a_client_error_is_not_tried_again(serve: Make, mesh: Make) -> None:
    """Asking again would not help."""
    peer = serve(lambda exchange: exchange.answer(404))
    server = mesh(mesh_service(call(retries=RETRIES), peers=back(peer)))
    assert (502, "call of back failed: GET /y: status 404") == server.error()
    assert 1 == peer.seen


def test_a_call_times_out(serve: Make, mesh: Make) -> None:
    """And the next one does not get the answer that was due."""
    peer = serve(lambda exchange: exchange.wait(60) if exchange.number == 0 else exchange.answer())
    server = mesh(mesh_service(call(timeout_ms=700), peers=back(peer)))
    assert (502, "call of back failed: GET /y: timed out") == server.error()
    assert 200 == server.request()[0]
    assert 2 == peer.connections


def test_a_connection_that_the_peer_closed_is_replaced(serve: Make, mesh: Make) -> None:
    """A peer may end an idle connection at any time: no request fails for it."""

    def answer_and_leave(exchange: Exchange) -> None:
        exchange.answer()
        exchange.close()

    peer = serve(answer_and_leave)
    server = mesh(mesh_service(call(), peers=back(peer)))
    assert [200] * 20 == [server.request()[0] for _ in range(20)]


def test_a_breaker_closes_when_a_try_succeeds(serve: Make, mesh: Make) -> None:
    """After its time one call may try, and the next ones go again."""
    peer = serve(failing(2))
    server = mesh(mesh_service(call(), peers=back(peer, breaker={"failures": 2, "open_ms": 1})))
    assert [502, 502] == [server.request()[0] for _ in range(2)]
    eventually(lambda: server.request()[0] == 200)
    assert 200 == server.request()[0]


def test_a_breaker_opens(serve: Make, mesh: Make) -> None:
    """Calls fail at once after failures in a row."""
    peer = serve(failing(9))
    breaker = {"failures": 2, "open_ms": 600_000}
    server = mesh(mesh_service(call(), peers=back(peer, breaker=breaker)))
    assert [502, 502] == [server.request()[0] for _ in range(2)]
    assert (502, "call of back failed: GET /y: the circuit is open") == server.error()
    assert 2 == peer.seen


def test_replicas_take_turns(serve: Make, mesh: Make) -> None:
    """Round robin."""
    peers = [serve() for _ in range(3)]
    server = mesh(mesh_service(call(), peers=back(*peers)))
    for _ in range(9):
        server.request()
    assert [3, 3, 3] == [peer.seen for peer in peers]


def test_the_replica_with_least_to_do_is_asked(serve: Make, mesh: Make) -> None:
    """One that does not answer gets no second request."""
    stuck, quick = serve(lambda exchange: exchange.wait(60)), serve()
    service = mesh_service(call(timeout_ms=20_000), peers=back(stuck, quick, balance="least_connections"))
    server = mesh(service)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(server.request)
        eventually(lambda: stuck.seen)
        assert [200] * 10 == [server.request()[0] for _ in range(10)]
        assert (1, 10) == (stuck.seen, quick.seen)
        stuck.die()
        assert 502 == hanging.result(20)[0]


def test_parameters_of_the_path_are_handed_on(serve: Make, mesh: Make) -> None:
    """``{id}`` of the endpoint's path, or of its query, in the call's path; an exact path comes first."""
    peer = serve()
    endpoints = [
        endpoint("/hotels/{id}", call("/rooms/{id}/{floor}")),
        endpoint("/hotels/none", parameters=("why",)),
    ]
    server = mesh(mesh_service(peers=back(peer), endpoints=endpoints))
    assert 200 == server.request("/hotels/7%20a?floor=2+b")[0]
    assert ["GET /rooms/7%20a/2%20b HTTP/1.1"] == peer.lines
    assert (400, "GET /hotels/none requires why") == server.error("/hotels/none")
    assert (404, "no endpoint GET /hotels/7/8") == server.error("/hotels/7/8")
    assert 1 == server.metric('http_server_request_duration_seconds_count{endpoint="GET /hotels/{id}",status="200"}')


def test_a_call_may_carry_a_body(serve: Make, mesh: Make) -> None:
    """Of the size of the file."""
    peer = serve()
    server = mesh(mesh_service(call(method="POST", request_bytes=100_000), peers=back(peer)))
    assert 200 == server.request()[0]
    assert 100_000 == len(peer.exchanges[0].body)


def test_a_trace_in_b3_goes_on_in_w3c(serve: Make, mesh: Make) -> None:
    """Even where the service itself records nothing; W3C's own header wins."""
    peer = serve()
    server = mesh(mesh_service(call(), peers=back(peer)))
    server.request(headers={"b3": f"{TRACE}-{SPAN}-1"})
    server.request(headers={"b3": f"{TRACE}-{SPAN}-1", "traceparent": f"00-{SPAN}{SPAN}-{SPAN}-00"})
    assert f"00-{TRACE}-{SPAN}-01" == peer.exchanges[0].header("traceparent")
    assert f"00-{SPAN}{SPAN}-{SPAN}-00" == peer.exchanges[1].header("traceparent")


def test_a_choice_goes_by_weight(serve: Make, mesh: Make) -> None:
    """Three of four requests take the branch with three quarters of the weight."""
    peer = serve()
    choice = [{"weight": 3, "steps": [call("/often")]}, {"weight": 1, "steps": [call("/seldom")]}]
    server = mesh(mesh_service({"choice": choice}, peers=back(peer)))
    for _ in range(400):
        assert 200 == server.request()[0]
    assert 300 == pytest.approx(Counter(peer.lines)["GET /often HTTP/1.1"], abs=40)


def test_parallel_groups_all_end_before_one_fails_the_request(serve: Make, mesh: Make) -> None:
    """So that no span outlives its parent."""
    peer = serve(lambda exchange: exchange.answer(500) if "/bad" in exchange.line else exchange.answer())
    groups = [[call("/bad")], [{"wait": {"constant_ms": 50}}, call("/good")]]
    server = mesh(mesh_service({"parallel": groups}, call("/after"), peers=back(peer)))
    assert (502, "call of back failed: GET /bad: status 500") == server.error()
    assert ["GET /bad HTTP/1.1", "GET /good HTTP/1.1"] == peer.lines


def test_a_cache_keeps_the_keys_that_were_used_last(serve: Make, mesh: Make) -> None:
    """With room for two: a, b, a, c (forgets b), b, a (forgotten by b)."""
    peer = serve()
    cache = {"name": "c", "capacity": 2, "key": "k", "miss": [call("/{k}")]}
    server = mesh(mesh_service({"cache": cache}, peers=back(peer)))
    for key in "abacba":
        assert 200 == server.request(f"/x?k={key}")[0]
    assert ["a", "b", "c", "b", "a"] == [line[5] for line in peer.lines]


def test_what_could_not_be_fetched_is_not_cached(serve: Make, mesh: Make) -> None:
    """A key is there once its miss ended well."""
    peer = serve(failing(1))
    cache = {"name": "c", "capacity": 2, "keys": 1, "skew": 1.0, "miss": [call()]}
    server = mesh(mesh_service({"cache": cache}, peers=back(peer)))
    assert [502, 200, 200] == [server.request()[0] for _ in range(3)]
    assert 2 == peer.seen


def test_a_hit_ratio_is_kept(serve: Make, mesh: Make) -> None:
    """Nine of ten requests do without the store."""
    peer = serve()
    server = mesh(mesh_service({"cache": {"hit_ratio": 0.9, "miss": [call()]}}, peers=back(peer)))
    for _ in range(500):
        server.request()
    assert 50 == pytest.approx(peer.seen, abs=30)


def test_beyond_workers_and_queue_requests_are_refused(serve: Make, mesh: Make) -> None:
    """One is worked on, one waits, the third hears that the queue is full; the two are served in order."""
    go = threading.Event()
    peer = serve(lambda exchange: (go.wait(60), exchange.answer()))
    server = mesh(mesh_service(call(), peers=back(peer), workers=1, queue=1))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.request) for _ in range(2)]
        eventually(lambda: server.metric("http_server_queued_requests"))
        assert (503, "its queue is full") == server.error()
        go.set()
        assert [200, 200] == [each.result(20)[0] for each in waiting]


def test_state_grows_with_writes_to_its_limit(mesh: Make) -> None:
    """Memory and all: 1 MB a write, 3 MB at most."""
    server = mesh(mesh_service({"state": {"write_bytes": 10**6, "limit_bytes": 3 * 10**6, "scan_us_per_mib": 1.0}}))
    before = server.metric("process_resident_memory_bytes")
    for kept in (1, 2, 3, 3):
        server.request(method="POST")
        assert kept * 10**6 == server.metric("aefm_mesh_state_bytes")
    assert server.metric("process_resident_memory_bytes") - before > 2.5e6


def test_a_working_set_is_there_from_the_start(mesh: Make) -> None:
    """64 MiB, of which a request touches one."""
    memory = {"touch_bytes": 2**20, "working_set_bytes": 64 * 2**20}
    server = mesh(mesh_service({"memory": memory}))
    assert server.metric("process_resident_memory_bytes") > 64 * 2**20
    assert 200 == server.request()[0]


def test_several_threads_share_the_work(mesh: Make) -> None:
    """CPU work beside the thread that speaks HTTP: all requests are answered, the CPU time is the service's."""
    server = mesh(mesh_service({"cpu_us": 1000}, {"cpu_us": 1000}, iterations_per_us=100.0, threads=3))
    with ThreadPoolExecutor(8) as pool:
        assert {200} == {status for status, _ in pool.map(lambda _: server.request(), range(100))}
    assert server.metric("aefm_mesh_service_cpu_seconds_total") > 0


def test_a_fault_window_fails_requests_while_it_is_open(mesh: Make) -> None:
    """From the service's start on; one that is over, or far away, fails nobody."""
    endpoints = [
        endpoint(path, {"fail": {"status": 418, "window_s": window}})
        for path, window in {"/now": [0, 1e6], "/later": [1e6, 2e6]}.items()
    ]
    server = mesh(mesh_service(endpoints=endpoints))
    assert (418, "fails, as its steps say") == server.error("/now")
    assert 200 == server.request("/later")[0]


def faults(server: Any, **body: object) -> dict[str, Any]:
    """Set faults and return the report."""
    status, text = server.request("/-/faults", "POST", body=json.dumps(body))
    assert 200 == status, text
    return dict(json.loads(text))


def test_faults_are_off_unless_enabled(mesh: Make) -> None:
    """Nobody who can reach a service may stall it."""
    assert 403 == mesh(mesh_service()).request("/-/faults", "POST", body="{}")[0]


def test_faults_delay_and_fail_and_end(mesh: Make) -> None:
    """What is in force is told, with the counts that prove a dose; an empty body ends all of it."""
    server = mesh(mesh_service(faults=True))
    faults(server, delay_ms=30)
    assert 200 == server.request()[0]
    report = faults(server, fail_rate=1, fail_status=500)
    assert {"faults", "requests", "disturbed", "delayed_ms"} == report.keys()
    assert {"fail_rate": 1, "fail_status": 500} == report["faults"]
    assert (1, 1, 30) == (report["requests"], report["disturbed"], report["delayed_ms"])
    assert (500, "fails, as /-/faults says") == server.error()
    report = faults(server)
    assert 200 == server.request()[0]
    assert ({}, 2, 2) == (report["faults"], report["requests"], report["disturbed"])


def test_a_stall_holds_requests_until_it_ends(mesh: Make) -> None:
    """They wait and are served then; its control answers meanwhile."""
    server = mesh(mesh_service(faults=True))
    faults(server, stall=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.request)
        eventually(lambda: server.metric("http_server_queued_requests"))
        assert not waiting.done()
        faults(server)
        assert 200 == waiting.result(20)[0]
    assert 1 == faults(server)["disturbed"]


def test_faults_end_by_themselves(mesh: Make) -> None:
    """So that a session that was killed leaves none."""
    server = mesh(mesh_service(faults=True))
    faults(server, stall=True, ttl_s=0.05)
    assert 200 == server.request()[0]


@pytest.mark.parametrize("body", ["", "[]", '{"delay": 1}', '{"delay_ms": -1}', '{"stall": 1}', '{"fail_status": 200}'])
def test_what_is_no_fault_is_refused(mesh: Make, body: str) -> None:
    """With what was expected."""
    assert 400 == mesh(mesh_service(faults=True)).request("/-/faults", "POST", body=body)[0]


def test_the_environment_tells_pod_and_node(serve: Make, mesh: Make) -> None:
    """OTEL_RESOURCE_ATTRIBUTES joins the resource of what is exported."""
    receiver = serve()
    otlp = f"{receiver.url}/v1/traces"
    server = mesh(
        mesh_service(otlp_endpoint=otlp, labels={"aefm.run": "7"}),
        env={"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=front-1,k8s.node.name=n2"},
    )
    server.request()
    assert {"spans_exported": 1, "spans_dropped": 0, "complete": True} == json.loads(
        server.request("/-/flush", "POST")[1]
    )
    for part in (b"k8s.pod.name\x12\t\n\x07front-1", b"k8s.node.name\x12\x04\n\x02n2", b"aefm.run\x12\x03\n\x017"):
        assert part in receiver.exchanges[0].body


def test_spans_without_room_are_counted(serve: Make, mesh: Make) -> None:
    """A receiver that answers nothing cannot make the queue grow: 10 spans, room for 4."""
    receiver = serve(lambda exchange: exchange.wait(60))
    server = mesh(mesh_service(otlp_endpoint=f"{receiver.url}/v1/traces", span_queue=4))
    for _ in range(10):
        server.request()
    assert 6 == server.metric("aefm_mesh_spans_dropped_total")
    assert 4 == server.metric("aefm_mesh_spans_waiting")


def test_spans_leave_by_themselves_where_asked_for(serve: Make, mesh: Make) -> None:
    """export_interval_ms, for receivers that nobody tells when a run is over."""
    receiver = serve()
    server = mesh(mesh_service(otlp_endpoint=f"{receiver.url}/v1/traces", export_interval_ms=20))
    server.request()
    eventually(lambda: server.metric("aefm_mesh_spans_exported_total"))


def test_a_wrong_file_is_said_with_its_line(tmp_path: Path, mesh: Make) -> None:
    """And nothing is served."""
    program = mesh(mesh_service()).process.args[0]
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({**mesh_service(), "port": "x"}, indent=1))
    done = subprocess.run([program, "--config", path], capture_output=True, text=True, timeout=20, env=os.environ)
    assert (2, f"{path}:5: port: expected a number\n") == (done.returncode, done.stderr)
