"""What a run of wrk2 is to be: the two dialects, the schedule, the command line and the script around the user's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import LoadSpec

__all__ = ["DEATHSTARBENCH", "GILTENE", "TIMERS_S", "Dialect", "Plan", "dry_run", "recognise"]

TIMERS_S = 0.002
"""wrk2's timers count milliseconds."""

_ACCOUNTS = Path(__file__).with_name("wrk2.lua")
_CALIBRATION_S = 10.0
_GRACE_S = 0.05  # what was due in the window may leave as late as this
_SHORT_GRACE_S = 1.5  # wrk2 may sleep a second over its first requests, and a few must do
_MARGIN_S = 2.0  # wrk2 looks at its clock every two seconds where no answer comes


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a wrk2 schedules: connections start ``stagger_s`` apart, each one's first request at once or a period later.

    ``pipelines``: it sends when a request is due even if the connection still waits for an answer, and measures
    from the actual send; the other waits, and measures from when the request was due.
    """

    name: str
    stagger_s: float
    first_at_once: bool
    pipelines: bool


GILTENE = Dialect("wrk2", 0.005, True, False)
DEATHSTARBENCH = Dialect("wrk2 (DeathStarBench)", 0.001, False, True)


def recognise(text: str) -> Dialect | None:
    """Tell a wrk2 by the usage that it prints; None is another program, such as plain wrk, which has no rate."""
    if not re.search(r"^Usage: wrk ", text, re.MULTILINE) or not re.search(r"-R, --rate\b", text):
        return None
    return DEATHSTARBENCH if re.search(r"-D, --dist\b", text) else GILTENE


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of wrk2, and where the window lies in it: ``warmup_s`` after its start; wrk2 itself ends by ``limit_s``."""

    load: LoadSpec
    dialect: Dialect
    warmup_s: float
    limit_s: int

    @classmethod
    def of(cls, load: LoadSpec, dialect: Dialect) -> Plan:
        """Plan a run: its warm-up is the calibration, except that a short run without warm-up has neither.

        Raises:
            ConfigurationError: wrk2 cannot send such a load.
        """
        _check(load, dialect)
        after_s = load.duration_s + load.timeout_s + _MARGIN_S
        calibration_s = _CALIBRATION_S + dialect.stagger_s * (load.connections // load.threads)
        if load.warmup_s > calibration_s:
            raise ConfigurationError(
                "load driver wrk2",
                f"warmup of {load.warmup_s:g} s: its histogram begins {calibration_s:g} s after its start",
                f"at most {calibration_s:g} s",
                "shorten the warm-up, or use the bundled aefm-wrk",
            )
        warmup_s = 0.0 if not load.warmup_s and math.ceil(after_s) < _CALIBRATION_S else calibration_s
        return cls(load, dialect, warmup_s, math.ceil(warmup_s + after_s))

    def command_line(self, program: Path, script: Path, url: str) -> list[str]:
        """Return the argument vector; ``script`` is what :meth:`lua` says, in a file."""
        load = self.load
        return [
            str(program),
            *("-t", str(load.threads)),
            *("-c", str(load.connections)),
            *("-R", f"{load.rate_rps:.0f}"),
            *("-d", f"{self.limit_s}s"),
            *("--timeout", f"{math.ceil(load.timeout_s)}s"),
            "--latency",
            *("-s", str(script)),
            url,
        ]

    def lua(self, script: Path, start_mono_s: float, result: Path) -> str:
        """Return the script of a run whose warm-up begins at ``start_mono_s``: it runs ``script`` under accounts."""
        load, per_thread = self.load, self.load.connections // self.load.threads
        return _lua(
            script=str(script),
            result=str(result),
            seed=load.seed,
            start=start_mono_s,
            warmup=self.warmup_s,
            duration=load.duration_s,
            grace=_GRACE_S if self.warmup_s else _SHORT_GRACE_S,
            regular=per_thread * self.dialect.stagger_s <= load.connections / load.rate_rps,
            connections=per_thread,
            period=load.connections / load.rate_rps,
            stagger=self.dialect.stagger_s,
            first_at_once=self.dialect.first_at_once,
        )


def dry_run(script: Path, url: str) -> str:
    """Return the script that tries ``script`` in wrk2's own interpreter, and then ends it before it connects."""
    return _lua(script=str(script), seed=0, check=True, url=url)


def _check(load: LoadSpec, dialect: Dialect) -> None:
    """Refuse what wrk2 would silently round."""
    refused = None
    asked = {
        "distribution": load.distribution != "fixed",
        "schedule": load.schedule,
        "tags": load.tags,
        "max_connections": load.max_connections,
        "precision": load.precision,
        "abort": load.abort,
        "requests": load.requests,
    }
    if beyond := [name for name, value in asked.items() if value]:
        refused = (f"{', '.join(beyond)}: it does not know of such a thing", "a constant rate, evenly")
    elif load.rate_rps != int(load.rate_rps):
        refused = (f"rate {load.rate_rps:g}", "a whole number of requests per second")
    elif load.connections % load.threads:
        opened = load.connections // load.threads * load.threads
        refused = (
            f"{load.connections} connections on {load.threads} threads: it would open {opened}",
            f"a multiple of {load.threads}",
        )
    elif dialect.pipelines and load.rate_rps % load.threads:
        refused = (f"rate {load.rate_rps:g} on {load.threads} threads", f"a multiple of {load.threads}")
    if refused:
        raise ConfigurationError("load driver wrk2", *refused, "change it, or use the bundled aefm-wrk")


def _lua(**values: str | float | bool) -> str:
    """Return a Lua program that hands ``values`` to the accounts."""
    fields = ",\n".join(f"  {name} = {_lua_value(value)}" for name, value in values.items())
    return f"aefm = {{\n{fields},\n}}\ndofile({_lua_value(str(_ACCOUNTS))})\n"


def _lua_value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\{byte:03d}" if byte < 32 or byte > 126 or byte in b'"\\' else chr(byte)
                             for byte in value.encode()) + '"'  # fmt: skip
    return repr(value)
