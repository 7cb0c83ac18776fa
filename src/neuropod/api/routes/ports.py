"""`/api/v1/pods/{pod}/ports`: which ports of a pod have an address, and who may pass its gate."""

from fastapi import APIRouter

from neuropod.api.answers import port_answer
from neuropod.api.deps import Reader, Writer
from neuropod.api.routes.pods import port_request
from neuropod.kit.errors import NotFoundError
from neuropod.pods.views import PodView, PortView
from neuropod.wire.pods import Port, PortCreate, PortEdit, PortLink, PortPage

router = APIRouter(prefix="/pods/{pod}/ports", tags=["ports"])


def _port(view: PodView, number: int) -> PortView:
    for port in view.ports:
        if port.port == number:
            return port
    raise NotFoundError("no such port")


@router.get("", operation_id="listPorts")
async def list_ports(pod: str, caller: Reader) -> PortPage:
    """Return all ports of a pod; it has few, so there is one page."""
    async with caller.reading() as session:
        view = await caller.parts.pods.show_pod(session, pod, actor=caller.actor)
    return PortPage(items=[port_answer(port, caller.parts.addresses) for port in view.ports])


@router.post("", status_code=201, operation_id="addPort")
async def add_port(pod: str, body: PortCreate, caller: Writer) -> Port:
    """Expose a port. It has its address at once; the pod runs on."""
    async with caller.writing() as session:
        view = await caller.parts.pods.add_port(session, pod, port_request(body), actor=caller.actor)
    return port_answer(_port(view, body.port), caller.parts.addresses)


@router.patch("/{port}", operation_id="editPort")
async def edit_port(pod: str, port: int, body: PortEdit, caller: Writer) -> Port:
    """Rename a port, or change who may pass. Less access holds within five seconds, for open streams too."""
    async with caller.writing() as session:
        view = await caller.parts.pods.change_port(
            session, pod, port, actor=caller.actor, name=body.name, access=body.access
        )
    return port_answer(_port(view, port), caller.parts.addresses)


@router.delete("/{port}", status_code=204, operation_id="removePort")
async def remove_port(pod: str, port: int, caller: Writer) -> None:
    """Take a port's address away."""
    async with caller.writing() as session:
        await caller.parts.pods.remove_port(session, pod, port, actor=caller.actor)


@router.post("/{port}/link", operation_id="makePortLink")
async def make_port_link(pod: str, port: int, caller: Writer) -> PortLink:
    """Return a link that opens the port; for Jupyter it signs in, so it is made by POST and kept nowhere."""
    async with caller.reading() as session:
        link = await caller.parts.pods.port_link(session, pod, port, actor=caller.actor)
    return PortLink(url=caller.parts.addresses.pod_origin(link.host) + link.path)
