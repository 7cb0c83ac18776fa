"""Whether a user may have one more thing running: the one function that launch, start, restart and edit ask.

It decides under the owner's locked account row (SECURITY 29): twenty requests at once are decided one after another,
each on what the ones before it did. What a user's balance must cover is asked here too, once pods are charged.
"""

from neuropod.accounts.records import UserRow
from neuropod.db.engine import Session
from neuropod.ids import UserId
from neuropod.kit.errors import ConflictError, ForbiddenError
from neuropod.ledger.records import AccountRow
from neuropod.pods import store
from neuropod.settings import LimitSettings
from neuropod.words import Role


async def admit(
    session: Session, owner: UserRow, account: AccountRow, limits: LimitSettings, *, new_pods: int = 0
) -> None:
    """Raise unless the owner may run this. `account` is the owner's row, locked by this transaction."""
    if account.user_id != owner.id:
        raise ValueError("admission needs the owner's own account row")
    if not owner.active:
        raise ForbiddenError("this user is suspended: nothing can be launched or started", code="suspended")
    if new_pods and owner.role != Role.ADMIN:
        have = await store.count_pods(session, UserId(owner.id))
        if have + new_pods > limits.pods_per_user:
            sentence = (
                f"you have {have} of {limits.pods_per_user} pods, stopped ones included; delete one to launch another"
            )
            raise ConflictError(sentence, code="too_many_pods")
