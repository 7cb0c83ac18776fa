"""`/api/v1/templates`: named starting points for pods. `{template}` is an id or a name."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from neuropod.api.deps import Caller, Reader, Writer
from neuropod.api.markdown import safe_html
from neuropod.api.offers import why_not_runnable
from neuropod.api.paging import AskedPage
from neuropod.kit.errors import FieldError, InvalidInputError
from neuropod.pods.templating.service import (
    TemplateChange,
    create_template,
    delete_template,
    duplicate_template,
    edit_template,
)
from neuropod.templates import service, snapshot
from neuropod.templates.records import TemplateRow
from neuropod.wire.pods import SecretRef
from neuropod.wire.templates import (
    Recipe,
    SecretName,
    Template,
    TemplateCopy,
    TemplateCreate,
    TemplateEdit,
    TemplatePage,
    TemplatePort,
)
from neuropod.words import Access

router = APIRouter(prefix="/templates", tags=["templates"])


def template_answer(row: TemplateRow, caller: Caller, readme_html: str | None = None) -> Template:
    """Return a template, and whether a runtime here can run it."""
    said = service.snapshot_of(row)
    why_not = why_not_runnable(said, caller.parts.runtimes.values())
    return Template(
        id=row.id,
        name=row.name,
        title=row.title,
        description=row.description,
        readme=row.readme,
        readme_html=readme_html,
        author=row.author_id,
        public=row.public,
        image=said.image,
        command=None if said.command is None else list(said.command),
        env=said.env | {variable: SecretName(secret=name) for variable, name in said.env_secrets.items()},
        ports=[TemplatePort(port=port.port, name=port.name, access=port.access) for port in said.ports],
        gpu_type=said.gpu_type,
        container_disk_gb=said.container_disk_gb,
        volume_gb=said.volume_gb,
        jupyter=said.jupyter,
        recipe=said.recipe and Recipe(packages=list(said.recipe.packages), command=list(said.recipe.command)),
        ready_when=said.ready_when,
        ready_port=said.ready_port,
        ready_http=said.ready_http,
        stop_after_seconds=said.stop_after_seconds,
        idle_stop_after_seconds=said.idle_stop_after_seconds,
        runnable=why_not is None,
        why_not=why_not,
    )


async def _whole_answer(row: TemplateRow, caller: Caller) -> Template:
    """Return a template with its readme as HTML: in a thread, as a hostile one takes seconds to read (measured: 4)."""
    return template_answer(row, caller, await asyncio.to_thread(safe_html, row.readme))


@router.get("", operation_id="listTemplates")
async def list_templates(caller: Reader, asked: AskedPage) -> TemplatePage:
    """Return what one may start from: those that come with Neuropod first, then public ones and one's own."""
    async with caller.reading() as session:
        page = await service.list_templates(session, actor=caller.actor, cursor=asked.cursor, limit=asked.limit)
    return TemplatePage(items=[template_answer(row, caller) for row in page.items], next_cursor=page.next_cursor)


@router.get("/{template}", operation_id="showTemplate")
async def show_template(template: str, caller: Reader) -> Template:
    """Return a template."""
    async with caller.reading() as session:
        row = await service.show_template(session, template, actor=caller.actor)
    return await _whole_answer(row, caller)


@router.post("", status_code=201, operation_id="createTemplate")
async def write_template(body: TemplateCreate, caller: Writer, response: Response) -> Template:
    """Write a template of one's own. Public ones are made by administrators."""
    parts = caller.parts
    async with caller.writing() as session:
        row = await create_template(
            session, _change(body), settings=parts.settings, actor=caller.actor, now=parts.clock.now()
        )
    response.headers["Location"] = f"/api/v1/templates/{row.id}"
    return await _whole_answer(row, caller)


@router.patch("/{template}", operation_id="editTemplate")
async def change_template(template: str, body: TemplateEdit, caller: Writer) -> Template:
    """Change a template. Pods go on with what they were launched from; those that come with Neuropod stay."""
    parts = caller.parts
    async with caller.writing() as session:
        row = await edit_template(
            session, template, _change(body), settings=parts.settings, actor=caller.actor, now=parts.clock.now()
        )
    return await _whole_answer(row, caller)


@router.post("/{template}/duplicate", status_code=201, operation_id="duplicateTemplate")
async def copy_template(template: str, body: TemplateCopy, caller: Writer, response: Response) -> Template:
    """Make a private copy of one's own, to be changed."""
    parts = caller.parts
    async with caller.writing() as session:
        row = await duplicate_template(
            session, template, body.name, settings=parts.settings, actor=caller.actor, now=parts.clock.now()
        )
    response.headers["Location"] = f"/api/v1/templates/{row.id}"
    return await _whole_answer(row, caller)


@router.delete("/{template}", status_code=204, operation_id="deleteTemplate")
async def remove_template(template: str, caller: Writer) -> None:
    """Delete a template. Pods that came from it go on, and start again as it was."""
    async with caller.writing() as session:
        await delete_template(session, template, actor=caller.actor, now=caller.parts.clock.now())


_OF_ROW = ("description", "readme", "public")
_NULLABLE = frozenset(
    {"image", "command", "recipe", "volume_gb", "ready_port", "stop_after_seconds", "idle_stop_after_seconds"}
)


def _change(body: TemplateEdit) -> TemplateChange:
    """Return what the use-cases take: only fields that were sent."""
    sent = body.model_fields_set
    nulls = sorted(name for name in sent - _NULLABLE if getattr(body, name) is None)
    if nulls:
        wrong = [FieldError(name, "type", "cannot be null; leave it out to keep it") for name in nulls]
        raise InvalidInputError("; ".join(f"{error.field} {error.message}" for error in wrong), fields=wrong)
    values: dict[str, Any] = {name: getattr(body, name) for name in sent - set(_OF_ROW)}
    if body.env is not None:
        values["env"] = {name: value for name, value in body.env.items() if isinstance(value, str)}
        values["env_secrets"] = {name: value.secret for name, value in body.env.items() if isinstance(value, SecretRef)}
    if body.command is not None:
        values["command"] = tuple(body.command)
    if body.recipe is not None:
        values["recipe"] = snapshot.LocalRecipe(tuple(body.recipe.packages), tuple(body.recipe.command))
    if body.ports is not None:
        values["ports"] = tuple(
            snapshot.TemplatePort(
                port.port, f"Port {port.port}" if port.name is None else port.name, port.access or Access.PRIVATE
            )
            for port in body.ports
        )
    return TemplateChange(body.description, body.readme, body.public, values)
