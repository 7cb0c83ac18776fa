"""`/api/v1/templates`: named starting points for pods. `{template}` is an id or a name."""

from fastapi import APIRouter

from neuropod.api.deps import Caller, Reader
from neuropod.api.offers import why_not_runnable
from neuropod.api.paging import AskedPage
from neuropod.templates import service
from neuropod.templates.records import TemplateRow
from neuropod.wire.templates import Template, TemplatePage, TemplatePort

router = APIRouter(prefix="/templates", tags=["templates"])


def template_answer(row: TemplateRow, caller: Caller) -> Template:
    """Return a template, and whether a runtime here can run it."""
    snapshot = service.snapshot_of(row)
    why_not = why_not_runnable(snapshot, caller.parts.runtimes.values())
    return Template(
        id=row.id,
        name=row.name,
        title=row.title,
        description=row.description,
        readme=row.readme,
        author=row.author_id,
        public=row.public,
        image=snapshot.image,
        command=None if snapshot.command is None else list(snapshot.command),
        env=snapshot.env,
        ports=[TemplatePort(port=port.port, name=port.name, access=port.access) for port in snapshot.ports],
        gpu_type=snapshot.gpu_type,
        container_disk_gb=snapshot.container_disk_gb,
        volume_gb=snapshot.volume_gb,
        jupyter=snapshot.jupyter,
        runnable=why_not is None,
        why_not=why_not,
    )


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
    return template_answer(row, caller)
