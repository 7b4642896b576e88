"""What a run of wrk2 was, from the accounts that ``wrk2.lua`` kept; what nobody can tell is absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_aefm.errors import LoadError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.judgement import lag_limit_ms
from pytest_aefm.load.wrk2_plan import TIMERS_S, Plan
from pytest_aefm.model import LOWER_BOUNDS, LoadResult, Window

__all__ = ["read_result"]

_SCHEMA = 1
_LATE, _MOST = 3, 10  # powers of two, in milliseconds
_ANSWERS = {"success": "success", "mismatch": "mismatch", "4xx": "4xx", "5xx": "5xx", "other": "other_status"}
_UNKNOWN = {
    "pacer lag p99": "wrk2 does not tell how late requests left",
    "connections": "wrk2 does not tell how many were open",
    "local open failures": "wrk2 does not tell them from failures of the application",
}


def read_result(document: Mapping[str, Any], plan: Plan, version: str) -> LoadResult:
    """Turn what ``wrk2.lua`` wrote into a LoadResult.

    Raises:
        LoadError: it is of another schema, incomplete, or does not add up.
    """
    if document.get("schema") != _SCHEMA:
        raise LoadError("wrk2", f"accounts of schema {document.get('schema')!r}", f"schema {_SCHEMA}")
    try:
        return _Accounts(document, plan).result(version)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError("wrk2", f"unreadable accounts: {error!r}", f"schema {_SCHEMA}") from error


class _Accounts:
    """The accounts of a run, added up over its threads."""

    def __init__(self, document: Mapping[str, Any], plan: Plan) -> None:
        self._plan, self._threads = plan, document["threads"]
        self._errors: Mapping[str, int] = document["errors"]
        self._ended, self._wall, self._step = document["ended"], document["wall"], document["clock_step"]
        self._histogram = LatencyHistogram()
        for value_us, count in document["latency"]:
            self._histogram.record_us(value_us, count)
        begin, stop = (max(thread[edge] for thread in self._threads) for edge in ("begin", "stop"))
        if self._ended <= begin:
            raise LoadError("wrk2", f"it ended {begin - self._ended:.1f} s before its window", "a run to the end")
        self._interrupted = self._ended < stop
        self._window = Window(begin + self._wall, begin, min(self._ended, stop) - begin)
        self._answers = {name: self._sum(field) for field, name in _ANSWERS.items() if self._sum(field)}
        if self._sum("answered") > self._sum("sent"):
            what = f"{self._sum('answered')} answers to {self._sum('sent')} calls of request()"
            raise LoadError("wrk2", what, "one request of each call")

    def _sum(self, name: str) -> int:
        return round(math.fsum(thread[name] for thread in self._threads))

    def result(self, version: str) -> LoadResult:
        """Return what is known, and say of the rest why not."""
        answered, unknown = sum(self._answers.values()), dict(_UNKNOWN)
        lost = self._unanswered()
        outcomes = {"success": 0, **self._answers, **{name: count for name, count in lost.items() if count}}
        offered, unsent = sum(outcomes.values()), lost["unsent"]
        sent: int | None = offered - unsent
        if failed := self._errors["connect"] + self._errors["write"]:
            sent = None
            unknown["error_rate"] = (
                f"{failed} attempts to connect or to write failed in the whole run; wrk2 repeats each until it succeeds"
            )
        latency = self._latency(unknown)
        for name, count in lost.items():
            if count and name in LOWER_BOUNDS:
                latency[name] = self._at_least(name, count)
        return LoadResult(
            driver=self._plan.dialect.name,
            version=version,
            window=self._window,
            drain_s=max(0.0, max(thread["last"] for thread in self._threads) - self._window.end_mono_s),
            offered=offered,
            sent=sent,
            attempted=sent,
            achieved=answered,
            outcomes=outcomes,
            latency=latency,
            backlog_quarters=self._quarters(),
            backlog_at_end=unsent if sent is not None else None,
            connections_asked=self._plan.load.connections,
            threads_cpu=tuple(thread["cpu"] for thread in self._threads if thread["cpu"] >= 0),
            clock_step_s=self._step,
            interrupted=self._interrupted,
            pacer_lag=self._late(latency.get("success"), offered, unknown),
            unknown=unknown,
        )

    def _unanswered(self) -> dict[str, int]:
        """Count by outcome what never had an answer: of those due in the window the youngest, as requests queue.

        Read errors are those of the whole run, because wrk2 does not tell when they were.
        """
        sent, answered, due = self._sum("sent"), self._sum("answered"), self._sum("due")
        room = due - self._sum("due_in_warmup")
        if self._errors["connect"] or self._errors["write"]:  # then `sent` counts attempts
            return {"unsent": 0, "unanswered": min(room, max(0, due - answered))}
        read_errors = min(self._errors["read"], sent - answered)
        unsent = min(room, max(0, due - sent))
        waiting = min(room - unsent, sent - answered - read_errors)
        return {"read_error": read_errors, "unanswered" if self._interrupted else "timeout": waiting, "unsent": unsent}

    def _latency(self, unknown: dict[str, str]) -> dict[str, LatencyHistogram]:
        """Return the histogram of what was answered since the calibration, under its outcome if there is but one."""
        held, expected = self._histogram.count, self._sum("held")
        slack = 2 * len(self._threads) + self._plan.load.rate_rps * 2 * TIMERS_S
        if abs(held - expected) > max(slack, 0.01 * expected):
            unknown["latency"] = f"wrk2's histogram holds {held} answers of the {expected} since its calibration"
        elif self._plan.dialect.pipelines and (self._errors["read"] or self._errors["write"]):
            unknown["latency"] = "a connection broke, after which this wrk2 takes answers for those of other requests"
        elif len(self._answers) > 1:
            mixture = ", ".join(f"{count} {name}" for name, count in self._answers.items())
            unknown["latency"] = f"wrk2 has one histogram for all answers ({mixture})"
        elif self._answers:
            return {next(iter(self._answers)): self._histogram}
        return {"answered": self._histogram} if held else {}

    def _late(self, success: LatencyHistogram | None, offered: int, unknown: dict[str, str]) -> LatencyHistogram | None:
        """Return how late requests left at least, if that is enough to say that they left too late.

        Known are only those that were late while nothing was in flight.
        """
        lag, powers = LatencyHistogram(), range(_LATE, _MOST + 1)
        late = {power: count for power in powers if (count := self._sum(f"late{power}"))}
        for power, count in {0: offered - sum(late.values()), **late}.items():
            if count > 0:
                lag.record_us(2**power * 1e3 if power else 0, count)
        if lag.percentile_us(99) / 1e3 <= lag_limit_ms(success):
            return None
        del unknown["pacer lag p99"]
        return lag

    def _at_least(self, outcome: str, count: int) -> LatencyHistogram:
        """Return lower bounds: what was sent in the window waited through the drain, what was due for a while before.

        Of the unsent, each connection holds one for each period, so that the i-th youngest is at least
        ``(ceil(i / connections) - 1)`` periods old.
        """
        load, drained_s = self._plan.load, max(0.0, self._ended - self._window.end_mono_s)
        histogram = LatencyHistogram()
        if outcome != "unsent":
            histogram.record_us(drained_s * 1e6, count)
            return histogram
        for age in range(math.ceil(count / load.connections)):
            fitting = min(load.connections, count - age * load.connections)
            histogram.record_us(age * load.connections / load.rate_rps * 1e6, fitting)
        return histogram

    def _quarters(self) -> tuple[float, ...]:
        """Return the mean backlog in each quarter of the window, none where one was not looked at."""
        totals = []
        for quarter in range(1, 5):
            seen = [thread for thread in self._threads if thread[f"samples{quarter}"]]
            if len(seen) < len(self._threads):
                return ()
            totals.append(sum(thread[f"backlog{quarter}"] / thread[f"samples{quarter}"] for thread in seen))
        return tuple(round(total, 3) for total in totals)
