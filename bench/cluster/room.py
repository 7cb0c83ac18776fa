"""Room for a hundred pods of a GB each on this machine's one node: it is told of more memory than there is.

The least size that a GPU type can have is a GB, and the pods of these measurements use a few MB. So the node's kubelet
is started again with another /proc/meminfo, as lxcfs would show it one.
"""

import asyncio
import os
import subprocess
from pathlib import Path

from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import NODES
from neuropod.kube.objects import count_of

NODE = "node-1"
MEMORY_KB = 1 << 30
_TOOL = Path(__file__).parents[2] / "tools/cluster/cluster"
_SECONDS = 60

# Its programs are started again when they end (tools/cluster/node.py); pidof sees the node's own alone.
_SCRIPT = f"""
sed 's/^MemTotal:.*/MemTotal: {MEMORY_KB} kB/' /proc/meminfo > /run/meminfo
mount --bind /run/meminfo /proc/meminfo
kill $(pidof kubelet)
"""


async def make_room(client: KubeClient) -> None:
    """Let the throwaway cluster that KUBECONFIG names have room; may be repeated."""
    name = Path(os.environ["KUBECONFIG"]).parent.name
    if await _memory(client) >= MEMORY_KB * 500:
        return
    command = [_TOOL, "--name", name, "enter", "--node", NODE, "--all", "--", "sh", "-euc", _SCRIPT]
    subprocess.run(command, check=True)
    async with asyncio.timeout(_SECONDS):
        while await _memory(client) < MEMORY_KB * 500:
            await asyncio.sleep(0.5)


async def _memory(client: KubeClient) -> int:
    node = await client.get(NODES, NODE)
    assert node is not None
    return count_of(node["status"]["allocatable"]["memory"])
