"""A client of the real cluster that KUBECONFIG names, as its administrator."""

import os
from pathlib import Path

from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.kube.kubeconfig import from_kubeconfig


def client() -> KubeClient:
    return KubeClient(from_kubeconfig(Path(os.environ["KUBECONFIG"])), SystemClock(), timeout_seconds=20)
