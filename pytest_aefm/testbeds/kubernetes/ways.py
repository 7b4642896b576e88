"""Which ways a run needs where network policies are: the load's to the entry, the services' to names and traces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.application import Wanted
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import LOAD, ROLE_LABEL, Manifest
from pytest_aefm.testbeds.kubernetes.preflight_needs import Remark
from pytest_aefm.testbeds.kubernetes.probing import Walker, Way, probe

__all__ = ["examine_ways", "plan_walks"]

_API_NAME = "kubernetes.default.svc"
"""A Service that every cluster has."""


def examine_ways(
    connection: Connection,
    namespace: str,
    run: str,
    options: ClusterOptions,
    wanted: Wanted,
    inside_url: str,
    nodes: Sequence[str],
) -> list[Remark]:
    """Try them by pods where the namespace has network policies; of one without nothing is said.

    ``inside_url`` is the entry's as pods reach it, ``nodes`` those of the load.

    Raises:
        ApiError: nobody answers.
    """
    try:
        listed = connection.get(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")["items"]
    except ApiError as error:
        if error.status not in (401, 403):
            raise
        return []  # said once, as a permission
    if not listed:
        return []
    image = options.load_image or options.stress_image
    if image is None:
        mend = "name an image with bash by --aefm-load-image or --aefm-stress-image"
        return [Remark("warn", "probe of network policies", "cannot be made: no image is known", mend)]
    walks = plan_walks(options, wanted, inside_url, nodes, image)
    return [remark for walker, ways in walks for remark in probe(connection, namespace, run, walker, ways)]


def plan_walks(
    options: ClusterOptions, wanted: Wanted, inside_url: str, nodes: Sequence[str], image: str
) -> Iterator[tuple[Walker, list[Way]]]:
    """Yield who is to try which ways: load from inside the entry, a service names and the collector of traces."""
    if options.load_from == "cluster":
        entry = _way("the entry", inside_url, needs=True)
        yield Walker("a pod of load", {ROLE_LABEL: LOAD, APP_LABEL: "aefm-load"}, nodes, image), [entry]
    ways = [Way("names (DNS)", _API_NAME)]
    ways += [_way("the traces' collector", options.otlp)] if options.otlp else []
    yield Walker("a pod like the entry's", _labels_behind(wanted.manifests, wanted.selector), (), image), ways


def _way(what: str, url: str, *, needs: bool = False) -> Way:
    parts = urlsplit(url)
    return Way(what, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), needs)


def _labels_behind(manifests: Iterable[Manifest], selector: Mapping[str, str]) -> dict[str, str]:
    """Return all labels of the pods that a Service selects: policies may go by others than it does."""
    for item in manifests:
        labels = (item.pod_template.get("metadata") or {}).get("labels") or {}
        if selector and selector.items() <= labels.items():
            return {name: str(value) for name, value in labels.items()}
    return dict(selector)
