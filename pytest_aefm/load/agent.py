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
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_aefm.errors import LoadError
from pytest_aefm.load import lines
from pytest_aefm.load.aefm_wrk import MEASURED, AefmWrk, command_line
from pytest_aefm.load.barrier import BarrierError, Start, follow, lead, listen
from pytest_aefm.load.network import absolute, grown, tcp_counts
from pytest_aefm.model import LoadSpec

__all__ = ["main"]

_TICK_S = 0.01
_QUIET_S = 0.1
"""Nothing is said so shortly before the start: the generator is to have the core."""

_DRAIN_S = 30.0
_RESOLV_CONF = Path("/etc/resolv.conf")


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
    _say(lines.failed_line(status, output))
    return status


def _say(line: str) -> None:
    """Write a line in one piece: two threads speak."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run(plan: Mapping[str, Any], index: int) -> int:
    part = plan["parts"][index]
    load = LoadSpec(**part["load"])
    program = AefmWrk.find().program
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "load.json", Path(folder) / "load.log"
        with _ticking(index == 0) as stop_ticking:
            start = _met(plan, index)
            begin_ns = start.start_ns + round(part["shift_s"] * 1e9)
            url, host = absolute(plan["url"], _resolv_conf())
            argv = command_line(program, load, Path(plan["script"]), url, begin_ns, result, host=host)
            before = tcp_counts()
            with _running(argv, log) as process:
                if index == 0:
                    _say_start(start)
                    time.sleep(max(0.0, (start.start_ns - time.monotonic_ns()) / 1e9 - _QUIET_S))
                    stop_ticking()
                left_s = max(0.0, begin_ns - time.monotonic_ns()) / 1e9 + load.warmup_s + load.duration_s
                try:
                    status = process.wait(left_s + load.timeout_s + _DRAIN_S)
                except subprocess.TimeoutExpired:
                    return _failed(4, f"the generator did not end {_DRAIN_S:.0f} s after it should have")
        if status not in MEASURED:
            return _failed(status if status > 0 else 128 - status, log.read_text(errors="replace"))
        counted = grown(before, tcp_counts())
        for line in lines.result_lines({**json.loads(result.read_text()), "tcp": counted}):
            _say(line)
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


def _resolv_conf() -> str:
    """Return what this pod's names are looked up by; empty where nothing says."""
    try:
        return _RESOLV_CONF.read_text()
    except OSError:
        return ""


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


@contextmanager
def _ticking(active: bool) -> Iterator[Callable[[], None]]:
    """Say what time it is until the function that it yields is called: whoever reads the log learns this clock."""
    end = threading.Event()

    def tick() -> None:
        while not end.wait(_TICK_S):
            _say(lines.clock_line(time.monotonic_ns()))

    thread = threading.Thread(target=tick, name="ticking", daemon=True)
    if active:
        thread.start()
    try:
        yield end.set
    finally:
        end.set()
        if active:
            thread.join()


def _say_start(start: Start) -> None:
    """Say when all start, and how the clocks of the others differ from this one."""
    peers = {
        index: {"offset_ns": peer.offset_ns, "uncertainty_ns": peer.uncertainty_ns}
        for index, peer in start.peers.items()
    }
    _say(lines.start_line(start.start_ns, peers))


if __name__ == "__main__":
    sys.exit(main())
