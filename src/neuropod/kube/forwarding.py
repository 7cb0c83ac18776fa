"""A byte stream to a port of a pod, through the API server (`portforward`): KubeClient.port_forward.

For a server outside the cluster, which has no route to pods.
"""

import asyncio


class PortForward:
    """A connected stream. `attach` has the shape of runtimes.contract.Attach; `close` is for one never attached."""

    async def attach(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Start `protocol` on the stream and return its transport, after `connection_made`; call once.

        When nothing listens there, `connection_lost` gets a ConnectionRefusedError, without a byte before. The
        transport has no `write_eof`: the other end would not be told.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of one that was not attached; may be repeated."""
        raise NotImplementedError
