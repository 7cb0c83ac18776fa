"""The pod's resolver: a forwarder in the shim's event loop, bound in the pod's own network at 127.0.0.53:53.

It asks the host's resolvers from the host's network and refuses answers in ranges that pods may not reach (DNS
rebinding). Called by the shim: `await serve_names(network)` once its loop runs.
"""

from neuropod.runtimes.local.network import PodNetwork


class NameServer:
    """A running forwarder."""

    async def aclose(self) -> None:
        """Stop answering; may be repeated."""
        raise NotImplementedError


async def serve_names(network: PodNetwork) -> NameServer:
    """Start answering the pod's questions. Where the network has no internet it answers SERVFAIL at once."""
    raise NotImplementedError
