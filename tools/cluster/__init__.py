"""A real, throwaway Kubernetes on this machine, for tests: no Docker, no registry, nothing left when it has ended.

Called by `make cluster`, `make test-cluster` and by hand (`tools/cluster/cluster --help`). It builds the programs of
Kubernetes from Go modules (programs), packs a few images (images), and runs all of it inside namespaces of its own
(supervisor, node). It knows nothing of Neuropod, and needs nothing but Python's standard library, root and Debian.
"""
