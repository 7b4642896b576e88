"""The Kubernetes testbed: manifests as values, and the one place that talks to an API server.

    manifests, edits, mesh    pure: text -> manifests -> manifests; no cluster, no ``kubernetes`` package
    connection                the only module that imports ``kubernetes``, and that when it is used
    deploying, waiting        apply, watch, remove

Nothing is imported here, so that ``aefm manifests`` needs neither client nor cluster.
"""
