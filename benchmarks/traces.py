"""What traces cost to analyse, beside AEFM 0.2.0 and CRISP where these are at hand.

``AEFM_PEER_PYTHON`` is an interpreter with pandas 1 or 2 and AEFM 0.2.0's package on its path, ``CRISP`` the program
``crisp-trace``. Without them their promises are skipped, and said to be.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import promise
from trace_data import answer

PATHS = 2000
AEFM_RATIO, CRISP_RATIO, MILLION_S, MILLION_BYTES, LINEAR = 200, 10, 6.0, 10**9, 1.6
# What AEFM 0.2.0 does with an answer, from its text to its statistical data.
AEFM = """
import json, sys, time, types
import pandas
from AEFM.utils import trace_processor as processor
text = open(sys.argv[1]).read()
begin = time.perf_counter()
data = processor.exact_parent_duration(processor.load_from_json(json.loads(text)["data"]))
[processor.decouple_parent_and_child(data, q) for q in (0.5, 0.95)]
print(time.perf_counter() - begin)
"""
# A line for each trace: the spans on its critical path, sorted.
CRISP_PATHS = """
import json, sys
from crisp.configuration import get_config
from crisp.graph import Graph
get_config().overlap_allowance_fraction = float(sys.argv[2])
for trace in json.load(open(sys.argv[1]))["data"]:
    path = Graph({"data": [trace]}, "service-p0", "/", filename=sys.argv[1]).findCriticalPath()
    print(*sorted(node.sid for node in path))
"""
OUR_PATHS = """
import sys
from pathlib import Path
from pytest_aefm.collectors.jaeger_json import jaeger_spans, parse_jaeger
from pytest_aefm.collectors.spans import hexadecimal
from pytest_aefm.collectors.traces import analyse
analysis = analyse(jaeger_spans(parse_jaeger(Path(sys.argv[1]).read_bytes())))
traces, ids = analysis.forest.trace.tolist(), hexadecimal(analysis.forest.spans.span_id)
paths = {}
for trace, span, on in zip(traces, ids, analysis.critical.on.tolist()):
    paths.setdefault(trace, []).extend([span] * on)
print(*(" ".join(sorted(path)) for path in paths.values()), sep="\\n")
"""
OURS = """
import resource, sys, time
from pathlib import Path
from pytest_aefm.collectors.jaeger_json import jaeger_spans, parse_jaeger
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.collectors.trace_statistics import edge_rows, operation_rows, pod_rows, service_rows
from pytest_aefm.collectors.traces import analyse
spent, parts = 0.0, []
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    text = path.read_bytes()
    begin = time.perf_counter()
    parts.append(jaeger_spans(parse_jaeger(text)))
    spent += time.perf_counter() - begin
begin = time.perf_counter()
analysis = analyse(Spans.concatenate(parts))
for rows in (service_rows, pod_rows, operation_rows, edge_rows):
    rows(analysis)
spent += time.perf_counter() - begin
print(spent, analysis.spans, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def ours(folder: Path) -> tuple[float, int, int]:
    """Return seconds from texts to statistics, the number of spans, and the bytes at most in memory."""
    done = subprocess.run([sys.executable, "-c", OURS, folder], capture_output=True, text=True, check=True)
    seconds, spans, size = done.stdout.split()
    return float(seconds), int(spans), int(size)


def write(folder: Path, answers: int, traces: int, first: int = 0) -> Path:
    """Write so many answers of so many traces of 20 spans into a folder."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + answers):
        (folder / f"{number:06}.json").write_bytes(answer(traces, 20, number))
    return folder


def against_aefm(folder: Path) -> bool:
    """1,000 traces of 20 spans, from the text to the statistics."""
    peer = os.environ.get("AEFM_PEER_PYTHON")
    if not peer:
        print("skipped: AEFM 0.2.0, for AEFM_PEER_PYTHON names no interpreter that has it")
        return True
    here = write(folder / "aefm", 1, 1000)
    text = next(here.glob("*.json"))
    done = subprocess.run([peer, "-W", "ignore", "-c", AEFM, text], capture_output=True, text=True, check=True)
    theirs, mine = float(done.stdout.split()[-1]), statistics.median(ours(here)[0] for _ in range(5))
    what = f"1,000 traces x 20 spans: {mine:.3f} s, AEFM 0.2.0 {theirs:.1f} s, {theirs / mine:.0f} times as long"
    return promise(f"{what}, at least {AEFM_RATIO}", theirs / mine >= AEFM_RATIO)


def against_crisp(folder: Path, traces: int) -> bool:
    """Whole processes, on one core, on the same files of one trace each; CRISP with --lightMode."""
    crisp = os.environ.get("CRISP")
    if not crisp:
        print("skipped: CRISP, for CRISP does not name its program")
        return True
    here, core = write(folder / "crisp", traces, 1), ["taskset", "-c", "0"]
    out = folder / "out"
    out.mkdir()
    command = [crisp, "-s", "service-p0", "-a", "/", "-i", here, "-o", out, "--lightMode", "--rootTrace"]
    took = []
    for one in ([Path(sys.executable).with_name("aefm"), "traces", "--json", here], command):
        begin = time.perf_counter()
        subprocess.run([*core, *map(str, one)], check=True, capture_output=True)
        took.append(time.perf_counter() - begin)
    what = f"{traces:,} traces x 20 spans, whole process: {took[0]:.1f} s, CRISP {took[1]:.1f} s"
    return promise(
        f"{what}, {took[1] / took[0]:.1f} times as long, at least {CRISP_RATIO}", took[1] / took[0] >= CRISP_RATIO
    )


def unambiguous(trace: dict[str, Any]) -> bool:
    """Return whether all spans take time, and no two calls of a span end at once: then both define the path alike."""
    ends = [(span["references"], span["startTime"] + span["duration"]) for span in trace["spans"]]
    return all(span["duration"] for span in trace["spans"]) and all(ends.count(one) == 1 for one in ends)


def paths_of_crisp(folder: Path) -> bool:
    """Which spans are on the critical path: without CRISP's allowance for overlaps (a touch is none), and with it."""
    crisp = os.environ.get("CRISP")
    if not crisp:
        print("skipped: CRISP's critical paths, for CRISP does not name its program")
        return True
    traces = [trace for trace in json.loads(answer(PATHS, 20, 0))["data"] if unambiguous(trace)]
    text = folder / "paths.json"
    text.write_text(json.dumps({"data": traces}))
    found = {}
    for name, command in {
        "ours": [sys.executable, "-c", OUR_PATHS, text],
        "theirs": [Path(crisp).with_name("python"), "-c", CRISP_PATHS, text, "1e-9"],
        "allowing": [Path(crisp).with_name("python"), "-c", CRISP_PATHS, text, "0.01"],
    }.items():
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        found[name] = done.stdout.splitlines()
    alike, allowing = (
        sum(one == other for one, other in zip(found["ours"], found[name], strict=True))
        for name in found
        if name != "ours"
    )
    print(f"CRISP, allowing for overlaps, has the same spans on the path in {allowing:,} of {len(traces):,} traces")
    return promise(f"without it, in {alike:,}", alike == len(traces) > 0)


def a_million(folder: Path) -> bool:
    """1,000,000 spans as answers of 1,000 traces each; and how the cost of a span grows from 10,000 on."""
    here = write(folder / "million", 50, 1000)
    few = write(folder / "few", 1, 500)
    seconds, spans, size = ours(here)
    small, small_spans, _ = min(ours(few) for _ in range(5))
    growth = seconds / spans / (small / small_spans)
    text = f"{spans:,} spans: {seconds:.2f} s and {size / 1e6:.0f} MB, less than {MILLION_S:g} s and 1 GB"
    return all(
        [
            promise(text, spans >= 10**6 and seconds < MILLION_S and size < MILLION_BYTES),
            promise(f"a span costs {growth:.2f} times what it costs among 10,000, at most {LINEAR}", growth <= LINEAR),
        ]
    )


def main() -> int:
    """Measure, and say whether the promises hold."""
    chosen = sys.argv[1:] or ["aefm", "million", "paths", "crisp"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {
            "aefm": lambda: against_aefm(folder),
            "million": lambda: a_million(folder),
            "paths": lambda: paths_of_crisp(folder),
            "crisp": lambda: against_crisp(folder, int(os.environ.get("AEFM_CRISP_TRACES", "50000"))),
        }
        kept = [measures[one]() for one in chosen]
        return not all(kept)


if __name__ == "__main__":
    sys.exit(main())
