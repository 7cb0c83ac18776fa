"""Clients of the real cluster of the tests: as the server's account, and as its administrator; a user's namespace."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kube.client import KubeClient
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.runtimes.kubernetes.tenancy import Tenancy, server_subject
from support.cluster_account import ACCOUNT, NAMESPACE, account_kubeconfig
from support.cluster_pods import clear


def client() -> KubeClient:
    """Return a client as the server's account, with the rights of deploy/."""
    return KubeClient(from_kubeconfig(account_kubeconfig()), SystemClock(), timeout_seconds=20)


def admin_client() -> KubeClient:
    """Return one as the administrator, for what the server never does."""
    return KubeClient(from_kubeconfig(Path(os.environ["KUBECONFIG"])), SystemClock(), timeout_seconds=20)


@asynccontextmanager
async def users_namespace() -> AsyncIterator[str]:
    """Let a user's namespace be there, made by the account as the runtime makes it."""
    owner = UserId(new_id("usr"))
    tenant = Tenant(InstallationId(new_id("ins")), owner, user_hash(owner))
    subject = server_subject(f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
    async with client() as kube:
        await Tenancy(kube, SystemClock(), lambda: Fence(server=subject)).prepare(tenant)
    try:
        yield tenant.namespace
    finally:
        await clear(tenant.installation)
