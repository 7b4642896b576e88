"""What would make trials broken or invalid on this machine, and the line that mends it.

Each examination is a function that yields findings; facts come from the rooms that use them.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import AefmError
from pytest_aefm.options import ClusterOptions

__all__ = ["Diagnosis", "examine"]

_STEAL_PROBE_S = 0.5
_LAG_SAMPLES, _LAG_S = 200, 0.001
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding: ``state`` is ok, warn or bad; ``mend`` the line that helps, empty where nothing is to be done."""

    subject: str
    state: str
    found: str
    mend: str = ""


def examine(cluster: ClusterOptions | None = None) -> Iterator[Diagnosis]:
    """Yield what was found of tools, cores, timers and counters; takes about a second.

    With a ``cluster`` that, and of this machine what drives the load.
    """
    yield from _versions()
    yield from _driver()
    if cluster is None:
        yield from _tools()
    yield from _cores()
    yield from _timers()
    yield from _counters()
    yield from _ports()
    if cluster is not None:
        yield from _cluster(cluster)


def _versions() -> Iterator[Diagnosis]:
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {sys.version.split()[0]}"]
    for name in ("pytest-aefm", "pytest", "pytest-xdist"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    yield Diagnosis("versions", "ok", ", ".join(found))


def _driver() -> Iterator[Diagnosis]:
    from pytest_aefm.load.choice import find_driver

    try:
        driver = find_driver()
        yield Diagnosis(driver.name, "ok", str(driver.program))
    except AefmError as error:
        yield Diagnosis("aefm-wrk", "bad", f"{error.what}: no case can run", error.hint or "")


def _tools() -> Iterator[Diagnosis]:
    from pytest_aefm.interference import find_iperf3, find_stress_ng
    from pytest_aefm.mesh.program import find_mesh
    from pytest_aefm.testbeds.local_prometheus import find_prometheus

    try:
        yield Diagnosis("aefm-mesh", "ok", str(find_mesh().path))
    except AefmError as error:
        yield Diagnosis("aefm-mesh", "bad", f"{error.what}: no application runs on this machine", error.hint or "")
    for name, find, what in (
        ("stress-ng", find_stress_ng, "interference"),
        ("iperf3", find_iperf3, "network interference"),
    ):
        try:
            tool = find()
            yield Diagnosis(name, "ok", f"{tool.version} at {tool.program}")
        except AefmError as error:
            yield Diagnosis(name, "bad", f"{error.what}: cases with {what} are broken", error.hint or "")
    prometheus = find_prometheus()
    if prometheus:
        yield Diagnosis("prometheus", "ok", str(prometheus))
    else:
        text = "not found: services' time series are not collected, nothing else is lost"
        yield Diagnosis("prometheus", "warn", text, "apt-get install prometheus, or make setup in a checkout")


def _cores() -> Iterator[Diagnosis]:
    from pytest_aefm.testbeds.machine import plan_cores, quota_cores

    plan = plan_cores()
    if plan.shared:
        text = "the generator shares its core with the services: latencies hold the generator's own waiting"
        yield Diagnosis("cores", "warn", text, "a machine, or a container, with two physical cores")
    else:
        generator, services = sorted(plan.generator), sorted(plan.services)
        yield Diagnosis("cores", "ok", f"generator on {generator}, services on {services}")
    quota = quota_cores()
    if quota is not None and quota < len(plan.used):
        text = f"a quota of {quota:g} cores throttles what has {len(plan.used)}: pauses look like latency"
        yield Diagnosis("quota", "warn", text, "raise the container's CPU limit, or pin it to whole cores")
    else:
        yield Diagnosis("quota", "ok", "none" if quota is None else f"{quota:g} cores")
    try:
        old = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, old, os.sched_param(0))
        yield Diagnosis("real-time priority", "ok", "the generator may have it")
    except PermissionError:
        text = "not permitted: other programs on the generator's core can delay it"
        yield Diagnosis("real-time priority", "warn", text, "run as root, or give CAP_SYS_NICE")


def _timers() -> Iterator[Diagnosis]:
    late = []
    for _ in range(_LAG_SAMPLES):
        due = time.monotonic() + _LAG_S
        time.sleep(_LAG_S)
        late.append(time.monotonic() - due)
    p99_ms = sorted(late)[int(0.99 * len(late))] * 1e3
    text = f"a sleep of 1 ms ends {p99_ms:.2f} ms late (p99 of {len(late)})"
    if p99_ms > 1:
        yield Diagnosis("timers", "warn", f"{text}: pacer lag may make trials invalid", "end what else runs here")
    else:
        yield Diagnosis("timers", "ok", text)


def _counters() -> Iterator[Diagnosis]:
    from pytest_aefm.testbeds.machine import machine_facts

    before = _steal_ticks()
    time.sleep(_STEAL_PROBE_S)
    share = (_steal_ticks() - before) / os.sysconf("SC_CLK_TCK") / _STEAL_PROBE_S / (os.cpu_count() or 1)
    state = "ok" if share <= 0.03 else "warn" if share <= 0.10 else "bad"
    mend = "" if state == "ok" else "a machine whose cores are its own: above 10 % trials are invalid"
    yield Diagnosis("steal", state, f"a hypervisor takes {share:.1%} of the cores", mend)
    facts = machine_facts()
    load, cpus = facts["loadavg_1min"], facts["cpus"]
    busy = load is not None and load > 0.5 * cpus
    yield Diagnosis(
        "load", "warn" if busy else "ok", f"{load} over the last minute", "end what else runs here" if busy else ""
    )
    if facts["schedstat"]:
        yield Diagnosis("schedstat", "ok", "doses can be proven")
    else:
        yield Diagnosis("schedstat", "bad", "absent: no dose can be proven", "a kernel with CONFIG_SCHED_INFO")
    if facts["psi"]:
        yield Diagnosis("pressure (PSI)", "ok", "recorded")
    else:
        yield Diagnosis("pressure (PSI)", "warn", "absent: pressure is not recorded", "boot with psi=1")


def _steal_ticks() -> int:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8])


def _ports() -> Iterator[Diagnosis]:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        yield Diagnosis("ports", "ok", f"127.0.0.1 can be bound; local ports {low} to {high}")
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error))
        yield Diagnosis(
            "ports", "bad", f"127.0.0.1 cannot be bound ({name}): no service can start", "ip link set lo up"
        )


def _cluster(cluster: ClusterOptions) -> Iterator[Diagnosis]:
    from pytest_aefm.testbeds.kubernetes.connection import connect
    from pytest_aefm.testbeds.kubernetes.preflight import Needs, examine_cluster

    needs = Needs(
        namespace=cluster.namespace,
        lease_namespace=cluster.lease_home,
        prometheus=cluster.prometheus,
        jaeger=cluster.jaeger,
        tempo=cluster.tempo,
        otlp=cluster.otlp,
    )
    try:
        with connect(cluster.kubeconfig, cluster.context, patience_s=_PATIENCE_S) as connection:
            for remark in examine_cluster(connection, needs):
                yield Diagnosis(remark.subject, remark.state, remark.found, remark.mend)
    except AefmError as error:
        yield Diagnosis("cluster", "bad", str(error), "check the kubeconfig: kubectl version")
