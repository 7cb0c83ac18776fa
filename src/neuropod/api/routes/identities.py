"""`/api/v1/users/{user}/identities`: who at the sign-in provider signs a user in; for administrators.

Only people link and unlink, not their keys (SECURITY 27), and nothing is linked by an address alone (SECURITY 32).
"""

from fastapi import APIRouter

from neuropod.accounts.oidc.provider import Provider
from neuropod.accounts.records import IdentityRow
from neuropod.api.deps import Caller, Reader, Writer
from neuropod.kit.errors import ConflictError, FieldError, InvalidInputError
from neuropod.wire.users import Identity, IdentityLink, IdentityLinked, IdentityPage

router = APIRouter(prefix="/users/{user}/identities", tags=["users"])


def _answer(row: IdentityRow) -> Identity:
    return Identity(
        id=row.id,
        issuer=row.issuer,
        subject=row.subject,
        email=row.email,
        created_at=row.created_at,
        used_at=row.used_at,
    )


def _provider(caller: Caller) -> Provider:
    if caller.parts.provider is None:
        raise ConflictError("no sign-in provider is set here (oidc.issuer)", code="no_provider")
    return caller.parts.provider


@router.get("", operation_id="listIdentities")
async def list_identities(user: str, caller: Reader) -> IdentityPage:
    """Return the identities that sign a user in; for administrators."""
    async with caller.reading() as session:
        rows = await caller.parts.identities.list_identities(session, user, actor=caller.actor)
    return IdentityPage(items=[_answer(row) for row in rows])


@router.post("", status_code=201, operation_id="linkIdentity")
async def link_identity(user: str, body: IdentityLink, caller: Writer) -> IdentityLinked:
    """Let an identity of the provider sign a user in; for administrators."""
    if (body.subject is None) != body.by_address:
        sentence = "give either a subject or by_address: true"
        wrong = [FieldError(field, "one_of", sentence) for field in ("subject", "by_address")]
        raise InvalidInputError(sentence, fields=wrong)
    identities, actor = caller.parts.identities, caller.actor
    async with caller.writing() as session:
        await caller.parts.accounts.people.show_user(session, user, actor=actor)
        issuer = _provider(caller).issuer
        if body.subject is None:
            until = await identities.link_by_address(session, user, issuer=issuer, actor=actor)
            return IdentityLinked(identity=None, by_address_until=until)
        row = await identities.link_subject(session, user, issuer=issuer, subject=body.subject, actor=actor)
        return IdentityLinked(identity=_answer(row), by_address_until=None)


@router.delete("/{identity_id}", status_code=204, operation_id="unlinkIdentity")
async def unlink_identity(user: str, identity_id: str, caller: Writer) -> None:
    """Let an identity sign a user in no longer; for administrators. Sessions go on until they are revoked."""
    async with caller.writing() as session:
        await caller.parts.identities.unlink_identity(session, user, identity_id, actor=caller.actor)
