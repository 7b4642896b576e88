"""A probe of ways that network policies could block: one pod tries them in another's stead, and goes again.

It is never Ready, so that no Service leads to it, belongs to a Job, so that no other controller takes it for its own,
and ends by itself within a minute.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import JOBS
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.health import Failure, failures, has_ended
from pytest_aefm.testbeds.kubernetes.manifests import LOAD, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.preflight_needs import Remark
from pytest_aefm.testbeds.kubernetes.removing import Leftover, remove
from pytest_aefm.testbeds.kubernetes.restricted import container_security, only_on, pod_security, unmeshed

__all__ = ["Walker", "Way", "probe"]

Json = dict[str, Any]

_SUBJECT = "probe of network policies"
_ENDS_S, _DEADLINE_S, _POLL_S, _REMOVE_S = 60, 40.0, 0.2, 20.0
_MARK = "aefm-way"
_WORDS = {
    "name": "{who} cannot look up {where}",
    "silent": "{who} gets no answer from {where} within 3 s",
    "refused": "{who} is turned away by {where}",
}
_SCRIPT = f"""
number=0
for way in "$@"; do
  host=${{way%:*}} port=${{way##*:}} said=ok
  if ! timeout 5 getent ahosts "$host" > /dev/null; then said=name
  elif [ "$port" != 0 ]; then
    timeout 3 bash -c 'exec 3<> "/dev/tcp/$0/$1"' "$host" "$port" 2> /dev/null
    case $? in 0) ;; 124) said=silent ;; *) said=refused ;; esac
  fi
  echo "{_MARK} $number $said"; number=$((number + 1))
done
"""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Way:
    """Where a pod must get: ``what`` is at ``host`` and ``port`` (0: its name is all that is asked for).

    Where it does not get a run that ``needs`` it cannot go on.
    """

    what: str
    host: str
    port: int = 0
    needs: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Walker:
    """In whose stead ways are tried: ``who`` in words, its labels, its nodes (none: any), an image with bash."""

    who: str
    labels: Mapping[str, str]
    nodes: Sequence[str]
    image: str


def probe(connection: Connection, namespace: str, run: str, walker: Walker, ways: Sequence[Way]) -> list[Remark]:
    """Try ways from a pod; return of each whether it is open, or that the pod cannot be made. Nothing is left.

    Raises:
        ApiError: nobody answers.
    """
    job = _job(f"aefm-probe-{run}-{next(_numbers)}".lower(), namespace, run, walker, ways)
    name = job["metadata"]["name"]
    try:
        made = connection.apply(JOBS.path(namespace, name), job, MANAGER)
    except ApiError as error:
        if not 400 <= error.status < 500:
            raise
        return [_unmade(error.what)]
    try:
        said = _said(connection, namespace, name, len(ways))
    finally:
        left = remove(connection, [Leftover(run, JOBS, namespace, name, made["metadata"]["uid"])], deadline_s=_REMOVE_S)
    remarks = [_unmade(said)] if isinstance(said, str) else [*map(_remark, ways, said, [walker.who] * len(ways))]
    return [*remarks, *(Remark("warn", _SUBJECT, what, "aefm clean removes it") for what in left)]


def _unmade(why: str) -> Remark:
    return Remark("warn", _SUBJECT, f"cannot be made: {why}", "without it a way that is blocked is found by the load")


def _remark(way: Way, said: str, who: str) -> Remark:
    subject = f"way to {way.what}"
    if said == "ok":
        return Remark("ok", subject, f"{who} reaches {way}")
    text = _WORDS[said].format(who=who, where=way)
    return Remark("bad" if way.needs else "warn", subject, text, "let the namespace's network policies admit it")


def _said(connection: Connection, namespace: str, job: str, count: int) -> list[str] | str:
    """Return what the pod says of each way, or why it says nothing."""
    root, deadline = f"/api/v1/namespaces/{namespace}", time.monotonic() + _DEADLINE_S
    since: dict[Failure, float] = {}
    while True:
        pods = connection.get(f"{root}/pods", labelSelector=f"batch.kubernetes.io/job-name={job}")["items"]
        for pod in filter(has_ended, pods):
            log = connection.text(f"{root}/pods/{pod['metadata']['name']}/log")
            told = [line.split() for line in log.splitlines() if line.startswith(f"{_MARK} ")]
            if len(told) == count:
                return [words[2] for words in told]
            return f"its pod ended without a word: {log.strip()[-200:] or 'its log is empty'}"
        jobs = [{"kind": "Job", **connection.get(JOBS.path(namespace, job))}]
        wrong, now = failures(jobs, pods, connection.get(f"{root}/events")["items"]), time.monotonic()
        since = {one: since.get(one, now) for one in wrong}
        if final := [one for one in wrong if now >= min(deadline, since[one] + one.grace_s)]:
            return str(final[0])
        if now >= deadline:
            return f"its pod has not ended after {_DEADLINE_S:g} s"
        time.sleep(_POLL_S)


def _job(name: str, namespace: str, run: str, walker: Walker, ways: Sequence[Way]) -> Json:
    labels = {RUN_LABEL: run, ROLE_LABEL: LOAD, APP_LABEL: "aefm-probe"}
    template = {"metadata": unmeshed({**labels, **walker.labels}), "spec": _pod(walker, ways)}
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _ENDS_S,
        "ttlSecondsAfterFinished": _ENDS_S,
        "template": template,
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod(walker: Walker, ways: Sequence[Way]) -> Json:
    size = {"cpu": "50m", "memory": "32Mi"}
    container = {
        "name": "probe",
        "image": walker.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["bash", "-c", _SCRIPT, "bash", *(f"{way.host}:{way.port}" for way in ways)],
        "resources": {"requests": size, "limits": size},
        "securityContext": container_security(),
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "readinessGates": [{"conditionType": "aefm.dev/never"}],
        "affinity": {"nodeAffinity": only_on(walker.nodes)} if walker.nodes else {},
        "securityContext": pod_security(),
        "containers": [container],
    }
