"""Every kind of interference at dose 1 and 2 beside the hotel: what was delivered, and what it did."""

from __future__ import annotations

import sys

from measuring import promise, trials

KINDS = {
    "cpu": "cpu=[1, 2]",
    "mem_capacity": 'mem_capacity=[1, 2], interference={"mem_capacity": {"mem_size": "1Gi"}}',
    "mem_bandwidth": "mem_bandwidth=[1, 2]",
    "network": 'network=[1, 2], interference={"network": {"throughput": "1G"}}',
}


def main() -> int:
    """Measure, and say whether the promises hold."""
    kept = []
    for kind, factor in KINDS.items():
        marker = f'app="hotel", script="hotel/search.lua", rate=40, {factor}, warmup=1, duration=5, slos="none"'
        for trial in trials(marker):
            (dose,) = trial["doses"]
            latency = f"p50 {trial['metrics'].get('p50')} ms, p99 {trial['metrics'].get('p99')} ms"
            pressure = trial["effect"].get("node_pressure_ms_per_s", {}).get("cpu.some")
            what = f"{kind} {dose['count']}: {dose['message']}; {latency}; cpu pressure {pressure} ms/s"
            kept.append(promise(f"{what}; {trial['verdict']} {trial['reason'] or ''}".rstrip(), dose["ok"]))
    return not (len(kept) == 2 * len(KINDS) and all(kept))


if __name__ == "__main__":
    sys.exit(main())
