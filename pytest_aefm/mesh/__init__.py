"""Any HTTP microservice application from one topology file.

The topology (the model of the file, and its checks) knows nothing of the program that serves it: they meet in
the resolved JSON of :mod:`pytest_aefm.mesh.resolved`.
"""
