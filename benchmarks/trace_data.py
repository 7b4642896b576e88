"""Traces as a Jaeger gives them: random trees of calls between services, with the tags that spans usually have."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["answer", "one_trace"]

SERVICES = 8
BASE_US = 1_700_000_000_000_000


def one_trace(dice: random.Random, spans: int) -> dict[str, Any]:
    """Return a trace of so many spans in up to eight services, 200 ms long; each child lies within its parent."""
    trace, base = f"{dice.getrandbits(128):032x}", BASE_US + dice.randrange(40_000_000)
    nodes: list[tuple[int, int, str]] = []
    made: list[dict[str, Any]] = []
    for number in range(spans):
        start, length, references = base, 200_000, []
        if number:
            above, room, parent = nodes[dice.randrange(max(0, number - 6), number)]
            start = above + dice.randrange(max(1, room // 2))
            length = dice.randrange(max(1, room - (start - above)))
            references = [{"refType": "CHILD_OF", "traceID": trace, "spanID": parent}]
        service, span = 0 if not number else dice.randrange(SERVICES), f"{dice.getrandbits(64):016x}"
        nodes.append((start, length, span))
        made.append(
            {
                "traceID": trace,
                "spanID": span,
                "flags": 1,
                "operationName": "/" if not number else f"/operation-{service}-{number % 3}",
                "references": references,
                "startTime": start,
                "duration": length,
                "tags": _tags(number, dice.random() < 0.01),
                "logs": [],
                "processID": f"p{service}",
                "warnings": None,
            }
        )
    used = {span["processID"] for span in made}
    return {"traceID": trace, "spans": made, "processes": {name: _process(name) for name in sorted(used)}}


def answer(traces: int, spans: int, seed: int) -> bytes:
    """Return an answer of ``/api/traces``."""
    dice = random.Random(seed)
    data = [one_trace(dice, spans) for _ in range(traces)]
    return json.dumps({"data": data, "total": 0, "limit": 0, "offset": 0, "errors": None}).encode()


def _tags(number: int, failed: bool) -> list[dict[str, Any]]:
    tags: list[dict[str, Any]] = [
        {"key": "http.method", "type": "string", "value": "GET"},
        {"key": "http.url", "type": "string", "value": f"http://localhost:5000/hotels?inDate=2015-04-09&n={number}"},
        {"key": "http.status_code", "type": "int64", "value": 200},
        {"key": "span.kind", "type": "string", "value": "server"},
        {"key": "internal.span.format", "type": "string", "value": "proto"},
    ]
    return tags + [{"key": "error", "type": "bool", "value": True}] * failed


def _process(name: str) -> dict[str, Any]:
    pod = {"key": "hostname", "type": "string", "value": f"service-{name}-7b9c5d-xk2lp"}
    return {"serviceName": f"service-{name}", "tags": [pod, {"key": "ip", "type": "string", "value": "10.0.0.1"}]}
