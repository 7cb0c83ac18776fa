"""The use-cases of templates that people write: create, change, duplicate, delete. Called by api.

It stands here and not in templates, since a template's fields are a pod's and obey a pod's rules. A pod keeps the
template as it was at its launch, so nothing here touches a pod. Starters belong to the program: nobody changes or
deletes them; they are duplicated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from neuropod.accounts.access import Actor, require_scope
from neuropod.catalogue.service import gpu_type_on_offer
from neuropod.db.audit import record_act
from neuropod.db.engine import Session
from neuropod.ids import UserId
from neuropod.kit.errors import ConflictError, FieldError, ForbiddenError, InvalidInputError, taken
from neuropod.kit.identifiers import new_id
from neuropod.pods.templating import rules
from neuropod.settings import Settings
from neuropod.templates import store
from neuropod.templates.records import TemplateRow
from neuropod.templates.service import show_template, snapshot_of
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.words import Scope

MOST_TEMPLATES = 100  # that one person keeps


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """What to change of a template; what is None, and fields of the snapshot that are not named, stay."""

    description: str | None = None
    readme: str | None = None
    public: bool | None = None
    snapshot: Mapping[str, Any] = field(default_factory=dict)


async def create_template(
    session: Session, asked: TemplateChange, *, settings: Settings, actor: Actor, now: datetime
) -> TemplateRow:
    """Write a template of the actor's own; public ones are written by administrators."""
    snapshot = TemplateSnapshot(**({"name": "", "title": ""} | dict(asked.snapshot)))
    row = await _add(session, asked, snapshot, shared=actor.is_admin, settings=settings, actor=actor, now=now)
    _tell(session, "create_template", row, actor, now, public=row.public)
    return row


async def duplicate_template(
    session: Session, template: str, name: str, *, settings: Settings, actor: Actor, now: datetime
) -> TemplateRow:
    """Make a private copy of one's own of a template in sight.

    Its built environment serves others only where the first one's does and an administrator copies it (SECURITY 2).
    """
    source = await show_template(session, template, actor=actor)
    copied = snapshot_of(source)
    asked = TemplateChange(source.description, source.readme, public=False)
    row = await _add(
        session,
        asked,
        replace(copied, name=name),
        shared=copied.shared and actor.is_admin,
        settings=settings,
        actor=actor,
        now=now,
    )
    _tell(session, "duplicate_template", row, actor, now, source=source.id)
    return row


async def edit_template(
    session: Session, template: str, asked: TemplateChange, *, settings: Settings, actor: Actor, now: datetime
) -> TemplateRow:
    """Change a template; pods go on with what they were launched from.

    One that is public is changed by administrators alone: what others start from does not change under their hands.
    """
    row = await _to_change(session, template, actor=actor)
    if row.public and not actor.is_admin:
        raise ForbiddenError("a public template is changed by administrators; duplicate it", code="admin_needed")
    before = snapshot_of(row)
    by_administrator = before.shared and actor.is_admin
    snapshot = replace(before, **dict(asked.snapshot), shared=by_administrator)
    description = row.description if asked.description is None else asked.description
    readme = row.readme if asked.readme is None else asked.readme
    _require_right_to_publish(asked, actor)
    await _check(session, snapshot, description, readme, settings=settings)
    if snapshot.name != row.name and await store.own_of_name(session, UserId(row.author_id or ""), snapshot.name):
        raise taken("name", snapshot.name)
    changed = sorted(name for name in asked.snapshot if getattr(before, name) != getattr(snapshot, name))
    changed += ["description"] * (description != row.description) + ["readme"] * (readme != row.readme)
    if asked.public is not None and asked.public != row.public:
        row.public = asked.public
        changed.append("public")
    row.name, row.title = snapshot.name, snapshot.title
    row.description, row.readme, row.snapshot = description, readme, snapshot.to_json()
    if changed:
        row.updated_at = now
        _tell(session, "edit_template", row, actor, now, fields=changed)
    await session.flush()
    return row


async def delete_template(session: Session, template: str, *, actor: Actor, now: datetime) -> None:
    """Delete a template; pods that came from it go on, and start again as it was."""
    row = await _to_change(session, template, actor=actor)
    _tell(session, "delete_template", row, actor, now)
    await session.delete(row)
    await session.flush()


async def _to_change(session: Session, template: str, *, actor: Actor) -> TemplateRow:
    require_scope(actor, Scope.WRITE)
    found = await show_template(session, template, actor=actor)
    if found.author_id is None:
        sentence = f"template {found.name} comes with Neuropod and stays as it is; duplicate it to change the copy"
        raise ForbiddenError(sentence, code="starter_template")
    if not actor.is_admin and found.author_id != actor.user_id:
        raise ForbiddenError("this template is somebody else's; duplicate it to change the copy", code="not_yours")
    return await store.lock_template(session, found.id)


async def _add(
    session: Session,
    asked: TemplateChange,
    snapshot: TemplateSnapshot,
    *,
    shared: bool,
    settings: Settings,
    actor: Actor,
    now: datetime,
) -> TemplateRow:
    require_scope(actor, Scope.WRITE)
    if actor.user_id is None:
        raise ForbiddenError("a template has a person who wrote it", code="owner_needed")
    _require_right_to_publish(asked, actor)
    description, readme = asked.description or "", asked.readme or ""
    await _check(session, snapshot, description, readme, settings=settings)
    if await store.own_of_name(session, actor.user_id, snapshot.name):
        raise taken("name", snapshot.name)
    if await store.count_own(session, actor.user_id) >= MOST_TEMPLATES:
        raise ConflictError(f"one keeps at most {MOST_TEMPLATES} templates; delete one", code="too_many_templates")
    row = TemplateRow(
        id=new_id("tpl"),
        name=snapshot.name,
        author_id=actor.user_id,
        public=bool(asked.public),
        title=snapshot.title,
        description=description,
        readme=readme,
        snapshot=replace(snapshot, author_id=actor.user_id, shared=shared).to_json(),
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await session.flush()
    return row


def _require_right_to_publish(asked: TemplateChange, actor: Actor) -> None:
    if asked.public and not actor.is_admin:
        raise ForbiddenError("only administrators make templates public", code="admin_needed")


async def _check(
    session: Session, snapshot: TemplateSnapshot, description: str, readme: str, *, settings: Settings
) -> None:
    wrong = [
        *rules.wrong_texts(snapshot.title, description, readme),
        *rules.wrong_snapshot(snapshot, port_limit=settings.limits.ports_per_pod),
    ]
    if await gpu_type_on_offer(session, snapshot.gpu_type) is None:
        wrong.append(FieldError("gpu_type", "unknown", f"no GPU type {snapshot.gpu_type!r} is on offer"))
    if wrong:
        raise InvalidInputError("; ".join(error.message for error in wrong), fields=wrong)


def _tell(session: Session, verb: str, row: TemplateRow, actor: Actor, now: datetime, **data: Any) -> None:
    record_act(
        session,
        verb,
        f"template/{row.id}",
        at=now,
        actor_id=actor.user_id,
        via=actor.via,
        owner_id=None if row.author_id is None else UserId(row.author_id),
        name=row.name,
        **data,
    )
