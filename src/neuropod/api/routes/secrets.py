"""`/api/v1/secrets`: values kept by name for one's own pods; written, never read."""

from typing import Annotated

from fastapi import APIRouter, Query

from neuropod.api.deps import Reader, Writer
from neuropod.kit.secrets import Secret
from neuropod.pods.secrets.service import SecretView
from neuropod.wire.secrets import SecretPage, SecretPod, SecretSet, UserSecret

router = APIRouter(prefix="/secrets", tags=["secrets"])


def _answer(view: SecretView) -> UserSecret:
    pods = [SecretPod(id=pod_id, name=name) for pod_id, name in view.pods]
    return UserSecret(name=view.name, set_at=view.set_at, pods=pods)


@router.get("", operation_id="listSecrets")
async def list_secrets(caller: Reader) -> SecretPage:
    """Return one's own secrets by name, without their values: when each was set and which pods use it."""
    async with caller.reading() as session:
        views = await caller.parts.secrets.list_secrets(session, actor=caller.actor)
    return SecretPage(items=[_answer(view) for view in views])


@router.put("/{secret}", operation_id="setSecret")
async def set_secret(secret: str, body: SecretSet, caller: Writer) -> UserSecret:
    """Keep a value by a name, in place of what was there. Pods that use it are given it at their next start.

    The name is written like a variable's.
    """
    value = Secret(body.value.get_secret_value())
    async with caller.writing() as session:
        view = await caller.parts.secrets.set_secret(session, secret, value, actor=caller.actor)
    return _answer(view)


@router.delete("/{secret}", status_code=204, operation_id="deleteSecret")
async def delete_secret(
    secret: str,
    caller: Writer,
    force: Annotated[bool, Query(description="Also while pods use it; they do not start without it.")] = False,
) -> None:
    """Delete a secret. Refused while pods use it (409 `secret_in_use`) unless `force` is true."""
    async with caller.writing() as session:
        await caller.parts.secrets.delete_secret(session, secret, actor=caller.actor, force=force)
