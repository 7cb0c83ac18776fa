"""For whom a pod is made: oneself, or the client whom an administrator names by address. Called at launch."""

from neuropod.accounts.access import Actor
from neuropod.accounts.service import normal_email
from neuropod.db.engine import ReadSession
from neuropod.ids import UserId
from neuropod.kit.errors import FieldError, ForbiddenError, InvalidInputError, NeuropodError
from neuropod.pods.drafts import draft_launch, refusal
from neuropod.pods.launch import LaunchRequest
from neuropod.pods.owners import store
from neuropod.pods.placing import World
from neuropod.words import Role


async def future_owner(
    session: ReadSession, request: LaunchRequest, world: World, *, owner_id: UserId | None, actor: Actor
) -> UserId:
    """Return for whom a pod is made. Raises ForbiddenError, and InvalidInputError with all that is wrong."""
    if request.owner is not None:
        wrong, found = await _named(session, request.owner, actor=actor)
        if wrong is not None:
            raise await _with_the_rest(session, request, world, wrong, actor=actor)
        owner_id = found
    wanted = owner_id or actor.user_id
    if wanted is None:
        raise ForbiddenError("say for whom the pod is", code="owner_needed")
    if wanted != actor.user_id:
        _require_administrator(actor)
    return wanted


def _require_administrator(actor: Actor) -> None:
    if not actor.is_admin:
        raise ForbiddenError("only administrators launch pods for others", code="admin_needed")


async def _named(session: ReadSession, email: str, *, actor: Actor) -> tuple[FieldError | None, UserId | None]:
    """Return the active client with an address, or what is wrong with it.

    Others than administrators are refused before anything is looked up: nobody learns from it who has an account.
    """
    _require_administrator(actor)
    user = await store.active_user_by_email(session, normal_email(email))
    if user is None:
        return FieldError("owner", "unknown", "nobody active has this address"), None
    if user.role != Role.CLIENT and user.id != actor.user_id:
        return FieldError("owner", "not_a_client", "pods are made for clients; an administrator makes their own"), None
    return None, UserId(user.id)


async def _with_the_rest(
    session: ReadSession, request: LaunchRequest, world: World, wrong: FieldError, *, actor: Actor
) -> InvalidInputError:
    """Return the error with what else is wrong, looked at as if the pod were the actor's own."""
    fields = [wrong]
    oneself = (await store.users_by_id(session, {actor.user_id})).get(actor.user_id) if actor.user_id else None
    if oneself is not None:
        try:
            await draft_launch(session, request, world, owner=oneself, actor=actor)
        except InvalidInputError as also:
            fields.extend(also.fields)
        except NeuropodError:
            pass  # it says something about the actor, who will not be the owner
    return refusal(fields)
