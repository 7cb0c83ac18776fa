"""`/api/v1/api-keys`: keys for programs.

A key can see its owner's keys, and neither make nor revoke any (SECURITY 27).
"""

from fastapi import APIRouter

from neuropod.api.answers import api_key_answer, api_key_created_answer
from neuropod.api.deps import Person, Reader
from neuropod.api.paging import AskedPage
from neuropod.wire.accounts import ApiKeyCreate, ApiKeyCreated, ApiKeyPage

router = APIRouter(prefix="/api-keys", tags=["api keys"])


@router.get("", operation_id="listApiKeys")
async def list_api_keys(caller: Reader, asked: AskedPage) -> ApiKeyPage:
    """Return one's own keys, newest first."""
    async with caller.reading() as session:
        page = await caller.parts.accounts.keys.list_keys(
            session, actor=caller.actor, cursor=asked.cursor, limit=asked.limit
        )
    return ApiKeyPage(items=[api_key_answer(row) for row in page.items], next_cursor=page.next_cursor)


@router.post("", status_code=201, operation_id="createApiKey")
async def create_api_key(body: ApiKeyCreate, caller: Person) -> ApiKeyCreated:
    """Make a key. It is in this answer and nowhere else."""
    async with caller.writing() as session:
        made = await caller.parts.accounts.keys.create_key(
            session, name=body.name, scopes=body.scopes, expires_at=body.expires_at, actor=caller.actor
        )
    return api_key_created_answer(made)


@router.delete("/{key_id}", status_code=204, operation_id="revokeApiKey")
async def revoke_api_key(key_id: str, caller: Person) -> None:
    """Revoke a key; it counts for nothing from now on, and at the gate within seconds."""
    async with caller.writing() as session:
        await caller.parts.accounts.keys.revoke_key(session, key_id, actor=caller.actor)
