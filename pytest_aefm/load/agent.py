"""What runs in a pod of load: waits for the others, runs the generator, says on standard output what it measured.

``python3 -P -m pytest_aefm.load.agent --plan FILE``; which part of the plan is its own, ``JOB_COMPLETION_INDEX`` says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_aefm.errors import LoadError
from pytest_aefm.load import lines
from pytest_aefm.load.aefm_wrk import AefmWrk, command_line
from pytest_aefm.load.barrier import BarrierError, Start, follow, lead, listen
from pytest_aefm.model import LoadSpec

__all__ = ["main"]

_TICK_S = 0.01
_QUIET_S = 0.05
"""Nothing is said so shortly before the start: the generator is to have the core."""

_DRAIN_S = 30.0
_SNMP = Path("/proc/net/snmp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do this pod's part of the plan; return an exit status: the generator's own, 5 where the others are missing."""
    parser = argparse.ArgumentParser(prog="python3 -m pytest_aefm.load.agent", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="the load as JSON")
    plan = json.loads(parser.parse_args(arguments).plan.read_text())
    signal.signal(signal.SIGTERM, _end)  # the first process of a pod ends by none that it does not handle
    if plan.get("protocol") != lines.PROTOCOL:
        return _failed(6, f"the image speaks protocol {lines.PROTOCOL}, the run {plan.get('protocol')}")
    try:
        return _run(plan, int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    except BarrierError as error:
        return _failed(5, str(error))
    except (LoadError, OSError) as error:
        return _failed(6, str(error))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _failed(status: int, output: str) -> int:
    print(lines.failed_line(status, output), flush=True)
    return status


def _run(plan: Mapping[str, Any], index: int) -> int:
    part = plan["parts"][index]
    load = LoadSpec(**part["load"])
    program = AefmWrk.find().program
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "load.json", Path(folder) / "load.log"
        start = _met(plan, index)
        begin_ns = start.start_ns + round(part["shift_s"] * 1e9)
        argv = command_line(program, load, Path(plan["script"]), plan["url"], begin_ns, result)
        before = _segments()
        with _running(argv, log) as process:
            if index == 0:
                _tell_time(start)
            left_s = max(0.0, begin_ns - time.monotonic_ns()) / 1e9 + load.warmup_s + load.duration_s + load.timeout_s
            try:
                status = process.wait(left_s + _DRAIN_S)
            except subprocess.TimeoutExpired:
                return _failed(4, f"the generator did not end within {left_s + _DRAIN_S:.0f} s")
        if status != 0:
            return _failed(status if status > 0 else 128 - status, log.read_text(errors="replace"))
        segments = {name: count - before.get(name, 0) for name, count in _segments().items()}
        for line in lines.result_lines({**json.loads(result.read_text()), "tcp": segments}):
            print(line)
    sys.stdout.flush()
    return 0


def _met(plan: Mapping[str, Any], index: int) -> Start:
    """Return the common start; only the first knows of the others' clocks."""
    meeting, others = plan["meeting"], len(plan["parts"]) - 1
    if not others:
        return Start(time.monotonic_ns() + int(plan["lead_s"] * 1e9), {})
    token, deadline_s = meeting["token"], plan["deadline_s"]
    if index:
        return Start(follow(meeting["host"], meeting["port"], index, token, deadline_s=deadline_s), {})
    with listen(meeting["port"]) as listener:
        return lead(listener, others, token, lead_s=plan["lead_s"], deadline_s=deadline_s)


def _segments() -> dict[str, int]:
    """Return how many TCP segments this pod has sent, and how many of them again; empty where it is not told."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        names, values = (line.split() for line in _SNMP.read_text().splitlines() if line.startswith("Tcp:"))
        told = dict(zip(names, values, strict=True))
        return {"sent": int(told["OutSegs"]), "retransmitted": int(told["RetransSegs"])}
    return {}


@contextmanager
def _running(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the generator; whatever happens here, it does not outlive this."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)


def _tell_time(start: Start) -> None:
    """Say when all start, then what time it is, until shortly before: whoever reads the log learns this clock."""
    peers = {
        index: {"offset_ns": peer.offset_ns, "uncertainty_ns": peer.uncertainty_ns}
        for index, peer in start.peers.items()
    }
    print(lines.start_line(start.start_ns, time.monotonic_ns(), peers), flush=True)
    while (now_ns := time.monotonic_ns()) < start.start_ns - int(_QUIET_S * 1e9):
        print(lines.clock_line(now_ns), flush=True)
        time.sleep(_TICK_S)


if __name__ == "__main__":
    sys.exit(main())
