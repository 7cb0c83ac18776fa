"""For whom a pod is made: the client whom an administrator names by address. Called by the pods' service at launch."""

from neuropod.accounts.access import Actor
from neuropod.accounts.service import normal_email
from neuropod.db.engine import ReadSession
from neuropod.ids import UserId
from neuropod.kit.errors import FieldError, ForbiddenError, InvalidInputError
from neuropod.pods.owners import store
from neuropod.words import Role


async def owner_named(session: ReadSession, email: str, *, actor: Actor) -> UserId:
    """Return for whom a pod is made, by the address of an active client. Administrators only.

    A client is told so before anything is looked up, so nobody learns from it who has an account.
    """
    if not actor.is_admin:
        raise ForbiddenError("only administrators launch pods for others", code="admin_needed")
    user = await store.active_user_by_email(session, normal_email(email))
    if user is not None and (user.role == Role.CLIENT or user.id == actor.user_id):
        return UserId(user.id)
    if user is None:
        wrong = FieldError("owner", "unknown", "nobody active has this address")
    else:
        wrong = FieldError("owner", "not_a_client", "pods are made for clients; an administrator makes their own")
    raise InvalidInputError(wrong.message, fields=[wrong])
