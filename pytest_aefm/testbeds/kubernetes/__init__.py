"""The Kubernetes testbed: manifests as values, and the one place that talks to an API server.

    manifests, edits, application, mesh   pure: text -> manifests -> manifests; no cluster, no ``kubernetes`` package
    connection                            the only module that imports ``kubernetes``, and that when it is used
    owners, ownership, turns              one run at a time, by a Lease
    permissions, preflight*               what an account may do, and what is in the way of a run; rbac/ has the roles
    applying, watching, waiting, health   apply in our name, wait by watch, give up with the reason
    converging, entry, forwarding         an application, and the way to it
    removing, cleaning                    what a run made goes by label and uid
    deadman                               Jobs that end soon after their keeper
    disturbances                          all that disturbs: stress* as such Jobs, chaos*, faulting; interfering by hand
    load*                                 load from inside as such a Job, its results merged
    cluster, marks, run_pods, observing   nodes, and what happened to pods in a window
    sources                               where its metrics and traces come from
    testbed, stage, place, refusing       all of it together

Nothing is imported here, so that ``aefm manifests`` needs neither client nor cluster.
"""
