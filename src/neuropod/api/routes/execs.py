"""`/api/v1/pods/{pod}/exec`: a command or a terminal in a pod, over a WebSocket (wire.exec says how it is spoken)."""

from typing import Annotated

from fastapi import APIRouter, Depends, WebSocket

from neuropod.api.deps import WebSocketCaller, Writer, web_socket_writer
from neuropod.api.terminals import Terminal
from neuropod.kit.errors import NeuropodError, UpgradeNeededError
from neuropod.wire.exec import SUBPROTOCOL

router = APIRouter(prefix="/pods/{pod}/exec", tags=["pods"])


@router.websocket("")
async def exec_in_pod(
    websocket: WebSocket, pod: str, caller: Annotated[WebSocketCaller, Depends(web_socket_writer)]
) -> None:
    """Run a command in a pod that runs. What is wrong is answered before the WebSocket opens where it can be."""
    offered = websocket.scope["subprotocols"]
    if offered and SUBPROTOCOL not in offered:
        raise NeuropodError(f"the subprotocol spoken here is {SUBPROTOCOL}", code="unknown_subprotocol")
    async with caller.reading() as session:
        await caller.parts.pods.entrance(session, pod, actor=caller.actor)
    await websocket.accept(SUBPROTOCOL if offered else None)
    await Terminal(websocket, caller, pod).serve()


@router.get("", operation_id="execInPod", status_code=101, responses={101: {"description": "The WebSocket is open."}})
async def without_upgrade(pod: str, caller: Writer) -> None:
    """Run a command in a pod, or open a terminal, over a WebSocket: docs/reference/exec.md says how it is spoken."""
    async with caller.reading() as session:
        await caller.parts.pods.entrance(session, pod, actor=caller.actor)
    raise UpgradeNeededError("this is spoken over a WebSocket: send Upgrade: websocket")
