"""Do nodes limit how many processes a pod has? Asked of their kubelets (SECURITY 15). Called by `cluster`.

A Pod cannot ask for such a limit: it is the kubelet's `podPidsLimit`, which is off by default. So it is looked up and
told, and an operator sets it. https://kubernetes.io/docs/concepts/policy/pid-limiting/
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from neuropod.kit.clock import Clock
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.runtimes.contract import Guarantee
from neuropod.runtimes.kubernetes.nodes import takes_pods
from neuropod.runtimes.kubernetes.usage import NodeStats
from neuropod.runtimes.kubernetes.watching import ClusterWatch

_NAME = "pids"
_AGAIN_SECONDS = 3600.0
_SOON_SECONDS, _RARELY_SECONDS = 10.0, 320.0  # while a node has not told, each time twice as long

_UNKNOWN = Guarantee(_NAME, False, "Whether nodes limit a pod's processes is being found out.")


class PidsLimits:
    """The question, and its last answer."""

    def __init__(self, stats: NodeStats, watch: ClusterWatch, clock: Clock) -> None:
        self._stats = stats
        self._watch = watch
        self._clock = clock
        self.guarantee = _UNKNOWN

    async def run(self) -> None:
        """Ask now, and every hour: nodes come and go. Soon again while it is not known.

        That is mostly a kubelet that is busy or starts; one that never tells (we may not ask it) is asked rarely.
        """
        soon = _SOON_SECONDS
        while True:
            nodes = sorted(node.metadata.name for node in self._watch.nodes() if takes_pods(node))
            limits = {node: await self._limit(node) for node in nodes}
            self.guarantee = guarantee_of(limits)
            known = is_known(limits)
            await self._clock.sleep(_AGAIN_SECONDS if known else min(soon, _AGAIN_SECONDS))
            soon = _SOON_SECONDS if known else min(2 * soon, _RARELY_SECONDS)

    async def _limit(self, node: str) -> int | None:
        try:
            return limit_of(await self._stats.text(node, "/configz"))
        except (KubeError, KubeUnavailableError, TimeoutError):
            return None


def limit_of(text: str) -> int | None:
    """Return what a kubelet's configuration says, 0 for no limit; None where it does not say."""
    try:
        config: Any = msgspec.json.decode(text)
        limit = config["kubeletconfig"].get("podPidsLimit", -1)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return None
    return max(0, limit) if isinstance(limit, int) else None


def is_known(limits: Mapping[str, int | None]) -> bool:
    """Tell whether the nodes' answers decide it: all told, or one has no limit, whatever others say."""
    return 0 in limits.values() or (bool(limits) and None not in limits.values())


def guarantee_of(limits: Mapping[str, int | None]) -> Guarantee:
    """Return what the nodes' answers mean: it holds where every node that takes pods has a limit."""
    without = [node for node, limit in limits.items() if limit == 0]
    silent = [node for node, limit in limits.items() if limit is None]
    if without:
        told = f"A pod may have any number of processes on {_some(without)}: set podPidsLimit of the kubelet there."
    elif not is_known(limits):
        told = f"Whether a pod's processes are limited is not known{f' of {_some(silent)}' if silent else ''}."
    else:
        least = min(limit for limit in limits.values() if limit is not None)
        return Guarantee(_NAME, True, f"A pod has at most so many processes as its node allows, {least} at least.")
    return Guarantee(_NAME, False, told)


def _some(nodes: list[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more"
