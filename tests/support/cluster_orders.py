"""Orders to the supervisor of the throwaway cluster (tools/cluster/supervisor.py): restart a program, cut a cable, …"""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

SOCKET = "NEUROPOD_CLUSTER_SOCKET"
# On a cluster of somebody's own nothing is broken, and its registries are not ours.
needs_throwaway = pytest.mark.skipif(SOCKET not in os.environ, reason="KUBECONFIG names no throwaway cluster of ours")


def order(*words: str, at: Path | None = None) -> Any:
    """Return what was done, by the supervisor at that socket; AssertionError with its words where it could not be."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET] if at is None else str(at))
        connection.sendall(json.dumps(words).encode() + b"\n")
        with connection.makefile("rb") as stream:
            answer = json.loads(stream.readline())
    assert "error" not in answer, answer
    return answer["done"]
