"""Run all measurements, or those named: `python -m bench [launches] [server] [gateway] [notebook]`.

`python -m bench cluster [launch] [bursts] [rival] [known]` needs a cluster: see bench.cluster.
"""

import sys
from importlib import import_module
from pathlib import Path

from bench.report import Figure, machine
from neuropod.operate.up import run_to_its_end

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

ALL = ("launches", "server", "gateway", "notebook")


async def main(names: list[str]) -> None:
    print(f"on {machine()}")

    async def emit(figure: Figure) -> None:
        print(figure.line(), flush=True)

    if names[:1] == ["cluster"]:
        print("\ncluster", flush=True)
        await import_module("bench.cluster").run(emit, names[1:])
        return
    for name in names or ALL:
        print(f"\n{name}", flush=True)
        await import_module(f"bench.{name}").run(emit)


if __name__ == "__main__":
    run_to_its_end(main(sys.argv[1:]))  # as `up` runs a server
