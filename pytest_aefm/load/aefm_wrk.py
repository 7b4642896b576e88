"""The bundled generator ``aefm-wrk`` as a driver: its command line, its run, its JSON as a LoadResult."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_aefm.errors import LoadError, ScriptError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.load import LoadRun
from pytest_aefm.load.program import LEAD_S, ProgramRun, exit_error, run_dry
from pytest_aefm.model import Account, CheckResult, LoadResult, LoadSpec, Window
from pytest_aefm.supervisor import Supervisor, SupervisorError

__all__ = ["MEASURED", "AefmWrk", "command_line", "failure", "read_result"]

MEASURED = (0, 5)
"""Exit statuses of a run that took place: with 5 a self-check failed, which is judged from its figures."""

_SCHEMA = 2
_OWN_CHECKS = ("arrivals", "trend")
"""Self-checks of the generator that nobody else can make; of the others its figures tell."""

_SCRIPT_ERROR = re.compile(r"(?P<where>[^\s:]+\.lua:\d+): (?P<what>.+)")


def command_line(
    program: Path,
    load: LoadSpec,
    script: Path,
    url: str,
    start_mono_ns: int,
    result: Path,
    own_cores: bool = False,
    host: str | None = None,
) -> list[str]:
    """Return the argument vector of a run whose warm-up begins at ``start_mono_ns`` (CLOCK_MONOTONIC).

    ``host`` is what requests call the target, where that is not the URL's name.

    On cores of its own the generator keeps them awake, at idle priority, and spins until a request is due, for a fifth
    of the time between requests and 5 ms at most: a virtual core that sleeps is woken late, by 10 ms and more.
    """
    spin_s = min(0.2 * load.threads / load.rate_rps, 0.005) if own_cores else 0.0
    return [
        str(program),
        *("-t", str(load.threads)),
        *("-c", str(load.connections)),
        *(["--max-connections", str(load.max_connections)] if load.max_connections is not None else []),
        *_arrivals(load),
        *("--warmup", f"{load.warmup_s:.10g}s"),
        *("--timeout", f"{load.timeout_s:.10g}s"),
        *("--seed", str(load.seed)),
        *("--busy-poll", f"{spin_s * 1e6:.0f}us"),
        *(["--keep-awake"] if own_cores else []),
        *("--start-at", str(start_mono_ns)),
        *(["--drain", f"{load.drain_s:.10g}s"] if load.drain_s is not None else []),
        *_early_ends(load),
        *(["--limits", ",".join(f"{limit:.10g}ms" for limit in load.limits_ms)] if load.limits_ms else []),
        *(part for name, rule in load.tags.items() for part in ("--tag-path", f"{name}={rule}")),
        *("-s", str(script)),
        *("--json", str(result)),
        *(["--requests", str(result.with_name("requests.bin"))] if load.requests else []),
        *(["-H", f"Host: {host}"] if host else []),
        url,
    ]


def _early_ends(load: LoadSpec) -> list[str]:
    """Return the options that may end the window before its duration is over."""
    options = []
    if load.precision is not None:
        percent, width = load.precision
        options += ["--precision", f"p{percent:g}:{width:.10g}"]
    if load.abort is not None:
        share, seconds = load.abort
        options += ["--abort-on", f"error_rate>{share:.10g}:{seconds:.10g}s"]
    return options


def _arrivals(load: LoadSpec) -> list[str]:
    """Return the options that say when requests are due."""
    phases = (
        f"{first:.10g}{f'..{last:.10g}' if last != first else ''}:{seconds:.10g}s"
        for first, last, seconds in load.schedule
    )
    rate = ["--schedule", ",".join(phases)] if load.schedule else ["-R", f"{load.rate_rps:.10g}"]
    lasting = [] if load.schedule else ["-d", f"{load.duration_s:.10g}s"]
    return [*rate, *lasting, "-D", load.distribution]


def read_result(document: Mapping[str, Any]) -> LoadResult:
    """Turn the JSON of ``aefm-wrk`` into a LoadResult.

    Raises:
        LoadError: it is of another schema, or incomplete.
    """
    if document.get("schema") != _SCHEMA:
        raise LoadError("aefm-wrk", f"result of schema {document.get('schema')!r}", f"schema {_SCHEMA}")
    try:
        window, connections, backlog = document["window"], document["connections"], document["backlog"]
        return LoadResult(
            driver="aefm-wrk",
            version=document["version"],
            window=Window(window["start_wall_ns"] / 1e9, window["start_mono_ns"] / 1e9, window["duration_ns"] / 1e9),
            drain_s=document["drain_ns"] / 1e9,
            **_account(document),
            tags={name: Account(**_account(tag)) for name, tag in document["tags"].items()},
            pacer_lag=_histogram(document["pacer_lag"]),
            backlog=_histogram(backlog),
            backlog_quarters=tuple(backlog["quarters"]),
            backlog_at_end=backlog["at_end"],
            connections_asked=connections["asked"],
            connections_reached=connections["reached"],
            connections_opened=connections.get("opened"),
            open_failures=connections["open_failures"],
            threads_cpu=tuple(document["threads_cpu"]),
            clock_step_s=document["clock_step_ns"] / 1e9,
            interrupted=document["interrupted"],
            ended_by=document["ended_by"],
            precision=document.get("precision"),
            abort=document.get("abort"),
            series=tuple((document.get("series") or {}).get("seconds", ())),
            checks=tuple(_check(check) for check in document["self_check"]["checks"] if check["name"] in _OWN_CHECKS),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError("aefm-wrk", f"unreadable result: {error!r}", f"schema {_SCHEMA}") from error


def _account(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an Account, of all requests or of a tag's."""
    return {
        **{name: document[name] for name in ("offered", "sent", "attempted", "achieved")},
        "outcomes": dict(document["outcomes"]),
        "latency": {name: _histogram(value) for name, value in document["latency"].items()},
        "n_eff": {limit["limit_us"]: limit["n_eff"] for limit in document["limits"]},
    }


def _check(check: Mapping[str, Any]) -> CheckResult:
    fields = ("name", "ok", "unit", "message", "warning")
    return CheckResult(observed=check["value"], limit=check["limit"], **{name: check[name] for name in fields})


def _histogram(value: Mapping[str, Any]) -> LatencyHistogram:
    return LatencyHistogram.decode(value["hdr"]) if value.get("count") else LatencyHistogram()


@dataclass(frozen=True, slots=True)
class AefmWrk:
    """The driver. ``program`` is where the generator lies."""

    program: Path
    name: str = "aefm-wrk"

    @classmethod
    def find(cls) -> AefmWrk:
        """Find the generator that was built with this package: beside the interpreter, then on PATH.

        Raises:
            LoadError: there is none; says why it was not built where that is known.
        """
        beside = Path(sys.executable).parent / "aefm-wrk"
        found = str(beside) if beside.is_file() else shutil.which("aefm-wrk")
        if found is None:
            raise LoadError("load driver aefm-wrk", f"not found ({_why_missing()})", None, _REMEDY)
        return cls(Path(found))

    def check_script(self, script: Path) -> None:
        """Run the script dry, without a network.

        Raises:
            ScriptError: it has an error; the subject is its file and line.
            LoadError: the generator cannot be run.
        """
        argv: list[str | Path] = [self.program, "--check", "-s", script, "-R", "1", "-d", "1s", "http://127.0.0.1:1"]
        done = run_dry("aefm-wrk", argv, script)
        if done.returncode:
            raise failure(script, done.returncode, done.stderr)

    def start(
        self,
        load: LoadSpec,
        script: Path,
        url: str,
        *,
        supervisor: Supervisor,
        cpus: Collection[int],
        artifacts: Path,
        own_cores: bool = False,
    ) -> LoadRun:
        """Start the generator; see :class:`pytest_aefm.load.Driver`.

        Raises:
            LoadError: it cannot be started.
        """
        result = artifacts.absolute() / "load.json"
        start_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        wall_minus_mono_ns = time.time_ns() - time.monotonic_ns()
        argv = command_line(self.program, load, script, url, start_ns, result, own_cores)
        try:
            # Beside nice neighbours alone it would still wait out a slice of theirs: 3 ms, now and then.
            log = artifacts / "load.log"
            process = supervisor.spawn(argv, name="aefm-wrk", log=log, cpus=cpus, realtime=True)
        except SupervisorError as error:
            raise LoadError("load driver aefm-wrk", str(error)) from error
        begin_ns = start_ns + int(load.warmup_s * 1e9)
        window = Window((begin_ns + wall_minus_mono_ns) / 1e9, begin_ns / 1e9, load.duration_s)
        return ProgramRun("aefm-wrk", process, window, result, read_result, partial(failure, script), MEASURED)


_REMEDY = (
    "install libluajit-5.1-dev and a C compiler, then install pytest-aefm again (pip install --force-reinstall), "
    "or install wrk2"
)


def _why_missing() -> str:
    """Say what the build wrote down about the engine."""
    from importlib.resources import files  # it knows where an editable installation keeps what was built

    try:
        built = json.loads((files("pytest_aefm.load") / "engine.json").read_text())
    except (OSError, ValueError):
        return "this installation has no native build"
    return (
        "it was built, but is not on PATH"
        if built.get("built")
        else f"built without the engine, because {built.get('reason')}"
    )


def failure(script: Path, status: int, output: str) -> LoadError:
    """Return the error of an exit status and the generator's words."""
    if status == 2:
        lines = [line for line in output.strip().splitlines() if line.strip()]
        found = next((match for line in lines if (match := _SCRIPT_ERROR.search(line))), None)
        subject = found["where"] if found else str(script)
        return ScriptError(
            subject, found["what"] if found else " ".join(lines[-1:]) or "Lua error", None, "mend the script"
        )
    return exit_error("aefm-wrk", status, output)
