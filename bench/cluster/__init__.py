"""Our server on a real, throwaway cluster, held against a bare client of it, and JupyterHub on it, in the same run.

`python -m bench cluster [launch] [bursts] [rival] [known]`, within `tools/cluster/cluster run --`, as
`make bench-cluster` does.
"""

import os
from collections.abc import Awaitable, Callable, Sequence

from bench.cluster import bursts, known, launch, rival
from bench.cluster.floor import floors
from bench.cluster.ours import ours
from bench.cluster.room import make_room
from bench.report import Figure

SIDE_BY_SIDE = {"launch": launch.measure, "bursts": bursts.measure, "rival": rival.measure}


async def run(emit: Callable[[Figure], Awaitable[None]], parts: Sequence[str] = ()) -> None:
    print(f"load of the machine at the start: {os.getloadavg()[0]:.1f}", flush=True)
    asked = [name for name in SIDE_BY_SIDE if name in parts or not parts]
    if asked:
        async with floors() as bare:
            await make_room(bare.client)
            async with ours() as server:
                for name in asked:
                    await SIDE_BY_SIDE[name](bare, server, emit)
    if "known" in parts or not parts:
        async with floors() as bare, ours() as server:
            await known.measure(bare.client, server, emit)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}", flush=True)
