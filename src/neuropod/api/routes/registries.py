"""`/api/v1/registries`: who one is at registries of images; passwords are written, never read."""

from fastapi import APIRouter

from neuropod.api.deps import Reader, Writer
from neuropod.kit.secrets import Secret
from neuropod.pods.registries.service import RegistryView
from neuropod.wire.registries import RegistryPage, RegistrySet, UserRegistry

router = APIRouter(prefix="/registries", tags=["registries"])


def _answer(view: RegistryView) -> UserRegistry:
    return UserRegistry(host=view.host, username=view.username, set_at=view.set_at)


@router.get("", operation_id="listRegistries")
async def list_registries(caller: Reader) -> RegistryPage:
    """Return one's own registries by host, without their passwords."""
    async with caller.reading() as session:
        views = await caller.parts.registries.list_registries(session, actor=caller.actor)
    return RegistryPage(items=[_answer(view) for view in views])


@router.put("/{registry}", operation_id="setRegistry")
async def set_registry(registry: str, body: RegistrySet, caller: Writer) -> UserRegistry:
    """Keep who one is at a registry, in place of what was there. Images from there are pulled as that from now on.

    It is named by its host, with its port if it has one.
    """
    password = Secret(body.password.get_secret_value())
    async with caller.writing() as session:
        view = await caller.parts.registries.set_registry(
            session, registry, body.username, password, actor=caller.actor
        )
    return _answer(view)


@router.delete("/{registry}", status_code=204, operation_id="deleteRegistry")
async def delete_registry(registry: str, caller: Writer) -> None:
    """Forget who one is at a registry. Pods that run go on."""
    async with caller.writing() as session:
        await caller.parts.registries.delete_registry(session, registry, actor=caller.actor)
