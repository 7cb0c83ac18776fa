"""Sends an order to a running cluster's supervisor (supervisor.py lists them)."""

import json
import socket
from typing import Any

from .places import Cluster


def order(cluster: Cluster, *words: str) -> Any:
    """Return what the supervisor answered; RuntimeError with its words if it could not, OSError if no cluster runs."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(cluster.socket))
        connection.sendall(json.dumps(words).encode() + b"\n")
        with connection.makefile("rb") as stream:
            answer = json.loads(stream.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["done"]
