"""Whether a user may have one more thing running: the one function that launch, start, restart, edit and quote ask.

It decides under the owner's locked account row (SECURITY 29): twenty requests at once are decided one after another,
each on what the ones before it did. What a user's balance must cover is asked here too, once pods are charged.
"""

from collections.abc import Sequence

from neuropod.accounts.records import UserRow
from neuropod.kit.errors import ConflictError, ForbiddenError, NeuropodError, taken
from neuropod.ledger.records import AccountRow
from neuropod.pods.drafts import Draft
from neuropod.pods.placing import World, require_isolation
from neuropod.pods.store import Belongings
from neuropod.settings import LimitSettings
from neuropod.words import Role


def admit(owner: UserRow, account: AccountRow | None, limits: LimitSettings, *, pods: int = 0) -> None:
    """Raise unless the owner may run this.

    All that is handed in was read under `ledger.lock_account`; `account` None: nothing was ever in it. `pods`: how many
    the owner would have, 0 where there will be no more than before.
    """
    if account is not None and account.user_id != owner.id:
        raise ValueError("admission needs the owner's own account row")
    if not owner.active:
        raise ForbiddenError("this user is suspended: nothing can be launched or started", code="suspended")
    if pods > limits.pods_per_user and owner.role != Role.ADMIN:
        most = limits.pods_per_user
        sentence = f"you have {pods - 1} of {most} pods, stopped ones included; delete one to launch another"
        raise ConflictError(sentence, code="too_many_pods")


def obstacles(has: Belongings, draft: Draft, world: World, name: str) -> Sequence[NeuropodError]:
    """Return all that stands against this launch, the weightiest first; a launch is refused with that one.

    `has` was read under the owner's account lock, or (for a quote) without: then it is true at that moment alone.
    """
    found: list[NeuropodError] = []
    try:
        require_isolation(world, world.runtimes[draft.runtime_id], has.owner)
    except ForbiddenError as error:
        found.append(error)
    try:
        admit(has.owner, has.account, world.settings.limits, pods=has.pods + 1)
    except NeuropodError as error:
        found.append(error)
    if has.name_taken:
        found.append(taken("name", name))
    return found
