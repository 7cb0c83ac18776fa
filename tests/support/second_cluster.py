"""A second throwaway cluster beside the one of the tests (tools/cluster), brought up for a test and ended after it.

Its network is its own too, and has the same addresses as the first one's. What reaches its API server is a relay in that
network (relay.py), which takes connections at a port of this network's loopback; its pods are reached through that alone.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from neuropod.kube.kubeconfig import from_kubeconfig
from support import relay
from support.cluster_orders import SOCKET, order
from support.servers import ROOT

_TOOL = ROOT / "tools/cluster/cluster"
_END_SECONDS = 180


@dataclass(frozen=True)
class SecondCluster:
    """It runs until it is told to end."""

    name: str
    kubeconfig: Path
    """Its administrator's, through the relay."""

    folder: Path

    def order(self, *words: str) -> Any:
        """Tell its supervisor, as `cluster_orders.order` tells the first one's."""
        return order(*words, at=self.folder / "control.sock")


@contextmanager
def second_cluster(folder: Path) -> Iterator[SecondCluster]:
    """Bring one up, which takes pods when it is given; at the end nothing of it is left, also if this process is killed.

    AssertionError with what was said if it does not come up.
    """
    name = f"second-{os.urandom(3).hex()}"
    own = Path(os.environ[SOCKET]).parent.parent / name
    env = {key: value for key, value in os.environ.items() if key not in {"KUBECONFIG", SOCKET}}
    at = urlsplit(from_kubeconfig(Path(os.environ["KUBECONFIG"])).server)  # both are made alike
    said = (folder / "second-cluster.log").open("w+")
    with socket.create_server(("127.0.0.1", 0)) as listening, said:
        process = subprocess.Popen(
            [_TOOL, "--name", name, "run", "--", sys.executable, relay.__file__, str(at.hostname), str(at.port)],
            stdin=listening, stdout=subprocess.PIPE, stderr=said, text=True, env=env,
            start_new_session=True,  # Ctrl-C is for the tests, which clean up with it
        )  # fmt: skip
        try:
            assert process.stdout is not None
            if not any(line.strip() == "relaying" for line in process.stdout):
                said.seek(0)
                raise AssertionError(f"the second cluster did not come up: {said.read()[-3000:]}")
            port = listening.getsockname()[1]
            yield SecondCluster(name, _through(port, own / "kubeconfig", folder), own)
        finally:
            process.terminate()
            process.wait(_END_SECONDS)
            process.stdout.close()
    assert not own.exists(), list(own.rglob("*"))[:10]


def _through(port: int, of: Path, folder: Path) -> Path:
    config = json.loads(of.read_text())
    for entry in config["clusters"]:
        entry["cluster"]["server"] = f"https://127.0.0.1:{port}"  # its certificate names this address too
    path = folder / "second.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path
