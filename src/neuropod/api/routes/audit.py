"""`/api/v1/audit`: who did what. Administrators see all, others what they did and what was done to their things."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from neuropod.api.deps import Caller, Reader
from neuropod.api.paging import AskedPage
from neuropod.api.people import act_answer
from neuropod.db.audit import ActFilters, acts_page
from neuropod.db.engine import ReadSession
from neuropod.kit.errors import ForbiddenError
from neuropod.wire.audit import AuditPage

router = APIRouter(prefix="/audit", tags=["audit"])


@dataclass(frozen=True, slots=True)
class Asked:
    """What the query asks for; all that is given must hold."""

    user: str | None
    actor: str | None
    verb: str | None
    subject: str | None
    since: AwareDatetime | None
    before: AwareDatetime | None


async def asked_acts(
    user: Annotated[
        str | None, Query(description="Whom it concerns: id or address; for administrators.", max_length=320)
    ] = None,
    actor: Annotated[
        str | None, Query(description="Who did it: id or address; for administrators.", max_length=320)
    ] = None,
    verb: Annotated[str | None, Query(description="What was done: `launch_pod`, …", max_length=100)] = None,
    subject: Annotated[str | None, Query(description="To what: `pod/<id>`, `user/<id>`, …", max_length=200)] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not before this time.")] = None,
    before: Annotated[AwareDatetime | None, Query(description="Before this time.")] = None,
) -> Asked:
    """Read the query."""
    return Asked(user, actor, verb, subject, since, before)


@router.get("", operation_id="listAudit")
async def list_audit(caller: Reader, paging: AskedPage, asked: Annotated[Asked, Depends(asked_acts)]) -> AuditPage:
    """Return the audit log, newest first: all of it for administrators, for others what concerns them."""
    async with caller.reading() as session:
        filters = await _filters(session, asked, caller)
        page = await acts_page(session, filters, cursor=paging.cursor, limit=paging.limit)
        ids = {one for row in page.items for one in (row.actor_id, row.owner_id) if one is not None}
        people = await caller.parts.accounts.people.named(session, ids)
    return AuditPage(items=[act_answer(row, people) for row in page.items], next_cursor=page.next_cursor)


async def _filters(session: ReadSession, asked: Asked, caller: Caller) -> ActFilters:
    if not caller.actor.is_admin and (asked.user is not None or asked.actor is not None):
        raise ForbiddenError("only administrators choose whose acts they see", code="admin_needed")
    concerns = caller.actor.user_id if not caller.actor.is_admin else await _user_id(session, asked.user, caller)
    return ActFilters(
        concerns=concerns,
        actor_id=await _user_id(session, asked.actor, caller),
        verb=asked.verb,
        subject=asked.subject,
        since=asked.since,
        before=asked.before,
    )


async def _user_id(session: ReadSession, user: str | None, caller: Caller) -> str | None:
    """Return the id of a user named by id or address. An id counts for deleted users too: their acts stay."""
    if user is None or "@" not in user:
        return user
    return (await caller.parts.accounts.people.show_user(session, user, actor=caller.actor)).id
