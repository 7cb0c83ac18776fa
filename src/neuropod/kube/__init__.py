"""The Kubernetes API: access, client, informer and pure object pieces. It knows no domain.

Called by the `kubernetes` runtime and by the carriers of the gateway. What an object means is theirs.
"""
