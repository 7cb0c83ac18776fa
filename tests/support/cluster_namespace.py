"""A user's namespace on the real cluster of the tests, for what needs no more than a place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.runtimes.kubernetes.tenancy import Tenancy, server_subject
from support.cluster_account import ACCOUNT, NAMESPACE, account_client
from support.cluster_pods import clear


@asynccontextmanager
async def users_namespace() -> AsyncIterator[str]:
    """Let a user's namespace be there, made by the account as the runtime makes it."""
    owner = UserId(new_id("usr"))
    tenant = Tenant(InstallationId(new_id("ins")), owner, user_hash(owner))
    subject = server_subject(f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
    async with account_client() as kube:
        await Tenancy(kube, SystemClock(), lambda: Fence(server=subject)).prepare(tenant)
    try:
        yield tenant.namespace
    finally:
        await clear(tenant.installation)
