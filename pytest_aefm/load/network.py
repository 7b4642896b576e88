"""The way of the load, as the kernel counts it in this network namespace; what it does not tell is absent."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

__all__ = ["absolute", "conntrack_use", "grown", "tcp_counts"]

_PROC = Path("/proc")
_COUNTERS = {
    ("Tcp", "OutSegs"): "sent",
    ("Tcp", "RetransSegs"): "retransmitted",
    ("TcpExt", "TCPSynRetrans"): "syn_retransmitted",
    ("TcpExt", "ListenOverflows"): "listen_overflows",
}


def tcp_counts(proc: Path = _PROC) -> dict[str, int]:
    """Return how many segments were sent, and again, and how many connections a full backlog turned away."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        with contextlib.suppress(OSError, ValueError):
            lines = [line.split() for line in (proc / "net" / name).read_text().splitlines()]
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group = names[0].removesuffix(":")
                told = dict(zip(names, values, strict=True))
                found |= {key: int(told[one]) for (of, one), key in _COUNTERS.items() if of == group and one in told}
    return found


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return how much counters grew that were read twice."""
    return {name: count - before[name] for name, count in after.items() if name in before}


def conntrack_use(proc: Path = _PROC) -> dict[str, int]:
    """Return how many connections are tracked (``entries``) of how many that may be (``limit``)."""
    folder, found = proc / "sys" / "net" / "netfilter", {}
    with contextlib.suppress(OSError, ValueError):
        for key, name in (("entries", "nf_conntrack_count"), ("limit", "nf_conntrack_max")):
            found[key] = int((folder / name).read_text())
    return found if len(found) == 2 else {}


def absolute(url: str, resolv_conf: str) -> tuple[str, str | None]:
    """Return a Service's URL (``http://web.ns.svc:80``) with its whole name and the final dot, and the Host header.

    One question to the name server then has one answer; any other name needs the search list of the pod, in which the
    cluster's domain stands. A URL that is none of a Service's, or in no cluster, stays as it is.
    """
    parts = urlsplit(url)
    lists = [line.split()[1:] for line in resolv_conf.splitlines() if line.split()[:1] == ["search"]]
    domain = next((name.removeprefix("svc.") for name in (lists or [[]])[-1] if name.startswith("svc.")), None)
    if domain is None or not (parts.hostname or "").endswith(".svc"):
        return url, None
    port = f":{parts.port}" if parts.port else ""
    whole = f"{parts.hostname}.{domain.rstrip('.')}.{port}"
    return urlunsplit((parts.scheme, whole, parts.path, parts.query, "")), f"{parts.hostname}{port}"
