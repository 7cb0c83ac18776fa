"""`/api/v1/me`: the person that a request comes from."""

from dataclasses import replace

from fastapi import APIRouter

from neuropod.api.answers import me_answer
from neuropod.api.deps import Person, Reader
from neuropod.api.signing_in import change_password
from neuropod.wire.accounts import Me, MeEdit, PasswordChange

router = APIRouter(prefix="/me", tags=["me"])


@router.get("", operation_id="showMe")
async def show_me(caller: Reader) -> Me:
    """Return who is asking, and what their key or session may do."""
    return me_answer(caller.signed_in)


@router.patch("", operation_id="editMe")
async def edit_me(body: MeEdit, caller: Person) -> Me:
    """Change one's own name."""
    async with caller.writing() as session:
        user = await caller.parts.accounts.rename_oneself(session, body.name, actor=caller.actor)
    return me_answer(replace(caller.signed_in, user=user))


@router.put("/password", status_code=204, operation_id="setPassword")
async def set_password(body: PasswordChange, caller: Person) -> None:
    """Set one's password. All other sessions end; API keys stay."""
    current = body.current_password
    await change_password(
        caller,
        caller.signed_in,
        body.new_password.get_secret_value(),
        None if current is None else current.get_secret_value(),
    )
