"""What is refused before anything is deployed: a case that options do not fit, a cluster that is not fit."""

from __future__ import annotations

from pathlib import Path

from pytest_aefm.errors import ConfigurationError, DeploymentError
from pytest_aefm.interference import asked_for, check, made_by_programs
from pytest_aefm.load.parts import divide
from pytest_aefm.model import AppSpec, Case, InterferenceSpec
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.faults import faults_of, refuse_faults
from pytest_aefm.testbeds.kubernetes.application import find_topology
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.preflight import Needs, Remark, examine_cluster
from pytest_aefm.testbeds.kubernetes.sources import jaeger_url, prometheus_url

__all__ = ["refuse_bad", "refuse_case", "refuse_unfit"]

_OF_PROMETHEUS = ("cpu", "cpu_cores", "cpu_peak", "throttled", "memory", "memory_share")


def refuse_case(case: Case, options: ClusterOptions) -> None:
    """Refuse what a run with these options cannot do.

    Raises:
        ConfigurationError: a disturbance is none, an image is not known, an SLO asks for what is not collected, or pods
            cannot send the load.
    """
    active = asked_for(case.interference)
    for spec in active:
        check(spec, quota=True)
    programs = made_by_programs(active)
    if programs and options.stress_image is None:
        what, hint = "the image of its pods is not known", "name it with --aefm-stress-image"
        raise ConfigurationError(f"interference {programs[0].kind!r}", what, None, hint)
    _refuse_faults(case.app, faults_of(active))
    if active != faults_of(active) and options.namespace is not None and not options.allow_shared:
        what = "a fixed namespace (--aefm-namespace) does not keep other runs off the nodes"
        raise ConfigurationError("interference", what, None, "--aefm-allow-shared says that this is known")
    if options.load_from == "cluster" and options.load_image is None:
        raise ConfigurationError("--aefm-load-from=cluster", "no image", None, "name it with --aefm-load-image")
    if options.load_from == "cluster":
        divide(case.load, options.load_pods)
    for slo in case.slos:
        if slo.name in ("self_time", "trace_coverage") and not (options.tempo or jaeger_url(options, case.app)):
            hint = "name it with --aefm-jaeger, or Tempo with --aefm-tempo"
            raise ConfigurationError(f"SLO {slo.text}", "no Jaeger is known", None, hint)
        if slo.name in _OF_PROMETHEUS and prometheus_url(options, case.app) is None:
            raise _no_prometheus(f"SLO {slo.text}")
    asked = next((name for name, query in case.metrics.items() if query is not None), None)
    if asked is not None and prometheus_url(options, case.app) is None:
        raise _no_prometheus(f"metric {asked!r}")


def _refuse_faults(app: AppSpec, faults: tuple[InterferenceSpec, ...]) -> None:
    """Refuse faults of services that are not ours, or that there are not."""
    if faults and app.manifests is not None:
        what = f"the services of {app.name!r} come from manifests, and cannot be asked for faults"
        raise ConfigurationError("interference 'fault'", what, "an application that has a topology")
    if faults:
        refuse_faults(find_topology(app, [Path()]), faults)


def _no_prometheus(subject: str) -> ConfigurationError:
    return ConfigurationError(subject, "no Prometheus is known", None, "name it with --aefm-prometheus")


def refuse_unfit(connection: Connection, needs: Needs) -> list[Remark]:
    """Look at the cluster; return what was found where nothing of it is bad.

    Raises:
        DeploymentError: something is; names all of it, and what mends the first.
    """
    return refuse_bad(connection, examine_cluster(connection, needs))


def refuse_bad(connection: Connection, found: list[Remark]) -> list[Remark]:
    """Return what was found where nothing of it is bad.

    Raises:
        DeploymentError: something is; names all of it, and what mends the first.
    """
    bad = [one for one in found if one.state == "bad"]
    if bad:
        what = "; ".join(f"{one.subject}: {one.found}" for one in bad)
        raise DeploymentError(connection.name, what, None, bad[0].mend or None)
    return found
