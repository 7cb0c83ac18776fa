"""`/api/v1/key-requests`: how `neuropod login` gets its key (in the manner of RFC 8628).

The program asks, shows the code, and lets the person confirm it on the console's `/connect`; then it claims the key.
"""

from fastapi import APIRouter

from neuropod.accounts.keys import REQUEST_INTERVAL_SECONDS
from neuropod.api.answers import api_key_created_answer
from neuropod.api.deps import Anybody
from neuropod.wire.accounts import KeyClaim, KeyClaimed, KeyRequest, KeyRequestCreated

router = APIRouter(prefix="/key-requests", tags=["key requests"])


@router.post("", status_code=201, operation_id="askForKey")
async def ask_for_key(body: KeyRequest, asking: Anybody) -> KeyRequestCreated:
    """Ask for a key. Anybody may; a signed-in person confirms."""
    async with asking.writing() as session:
        asked = await asking.parts.accounts.keys.ask(
            session, name=body.name, scopes=body.scopes, address=asking.address
        )
    return KeyRequestCreated(
        id=asked.row.id,
        secret=asked.secret.reveal(),
        code=asked.row.code,
        url=f"{asking.parts.addresses.console_origin}/connect?code={asked.row.code}",
        expires_at=asked.row.expires_at,
        interval_seconds=REQUEST_INTERVAL_SECONDS,
    )


@router.post("/{request_id}/claim", operation_id="claimKey")
async def claim_key(request_id: str, body: KeyClaim, asking: Anybody) -> KeyClaimed:
    """Tell how the request stands; once it is confirmed, this answer holds the key, once."""
    keys = asking.parts.accounts.keys
    secret = body.secret.get_secret_value()
    async with asking.reading() as reading:
        waits = await keys.still_waits(reading, request_id, secret)
    if waits:
        return KeyClaimed(status="waiting")  # asked every other second: no write transaction
    async with asking.writing() as session:
        claimed = await keys.claim(session, request_id, secret)
    return KeyClaimed(
        status=claimed.status, key=None if claimed.new_key is None else api_key_created_answer(claimed.new_key)
    )
