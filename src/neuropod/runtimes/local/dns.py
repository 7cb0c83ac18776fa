"""The pod's resolver: a forwarder in the shim's loop, bound in the pod's own network at 127.0.0.53:53.

It asks the host's resolvers from the host's network and refuses answers in ranges that pods may not reach (DNS
rebinding). Called by the shim: `serve_names(network, loop)` once the network is open. The shim has no asyncio (it
would cost each launch 45 ms and each pod 9 MB): `loop.Loop` has add_reader, remove, call_later (agreed with CORE).
"""

from neuropod.runtimes.local.loop import Loop
from neuropod.runtimes.local.network import PodNetwork


class NameServer:
    """A running forwarder."""

    def close(self) -> None:
        """Stop answering; may be repeated."""
        raise NotImplementedError


def serve_names(network: PodNetwork, loop: Loop) -> NameServer:
    """Start answering the pod's questions. Where the network has no internet it answers SERVFAIL at once.

    Never raises for the internet's sake and never blocks; the pod's launch waits for it.
    """
    raise NotImplementedError
