"""`/api/v1/system`: the server itself.

How it is, and what its machine isolates, is for administrators (SECURITY 34).
"""

import asyncio

from fastapi import APIRouter

from neuropod import __version__
from neuropod.api.deps import Reader
from neuropod.api.offers import capacities
from neuropod.api.parts import ApiParts
from neuropod.db.servers import ServerRow, all_servers
from neuropod.ids import RuntimeId
from neuropod.observability.health import PartHealth
from neuropod.pods.queue.store import taken_of
from neuropod.pods.room import Taken, disk_taken
from neuropod.runtimes.contract import Capacity, Report, Runtime, RuntimeUnavailableError
from neuropod.runtimes.opened import Runtimes
from neuropod.wire import system as wire

router = APIRouter(prefix="/system", tags=["system"])


@router.get("", operation_id="showSystem")
async def show_system(caller: Reader) -> wire.System:
    """Return the server's version, addresses and runtimes; for administrators also how they are."""
    if caller.actor.is_admin:
        return await system_answer(caller.parts)
    runtimes = caller.parts.runtimes
    return wire.System(
        **_addresses(caller.parts),
        runtimes=[_runtime(runtime, runtimes.names[runtime_id]) for runtime_id, runtime in runtimes.items()],
    )


async def system_answer(parts: ApiParts) -> wire.System:
    """Return all that operators see; also what the machine's socket answers."""
    capacity_of, reports = await asyncio.gather(capacities(parts.runtimes), _reports(parts.runtimes))
    async with parts.database.read() as session:
        taken = await taken_of(session, list(capacity_of))
        servers = await all_servers(session)
    runtimes = []
    for runtime_id, runtime in parts.runtimes.items():
        capacity = capacity_of.get(runtime_id)
        room = None if capacity is None else _capacity(capacity, taken[runtime_id])
        runtimes.append(_runtime(runtime, parts.runtimes.names[runtime_id], reports.get(runtime_id), room))
    return wire.System(
        **_addresses(parts),
        runtimes=runtimes,
        unopened=[wire.UnopenedRuntime(name=name, why=why) for name, why in parts.runtimes.unopened.items()],
        parts=[_part(part) for part in parts.board.parts()],
        servers=[_server(row) for row in servers],
    )


def _addresses(parts: ApiParts) -> dict[str, str]:
    scheme, _, rest = parts.addresses.console_origin.partition("://")
    _, colon, port = rest.partition(":")
    return {
        "version": __version__,
        "console_url": parts.addresses.console_origin,
        "api_url": f"{scheme}://{parts.addresses.api_host}{colon}{port}",
    }


async def _reports(runtimes: Runtimes) -> dict[RuntimeId, Report | None]:
    async def of(runtime: Runtime) -> Report | None:
        try:
            return await runtime.report()
        except RuntimeUnavailableError:
            return None

    asked = list(runtimes)
    return dict(zip(asked, await asyncio.gather(*(of(runtimes[runtime_id]) for runtime_id in asked)), strict=True))


def _runtime(
    runtime: Runtime, name: str, report: Report | None = None, room: wire.RuntimeCapacity | None = None
) -> wire.Runtime:
    return wire.Runtime(
        id=runtime.id,
        name=name,
        capabilities=sorted(runtime.capabilities),
        mode=report and report.mode,
        guarantees=report
        and [wire.Guarantee(name=row.name, holds=row.holds, message=row.message) for row in report.guarantees],
        notes=report and list(report.notes),
        capacity=room,
    )


def _capacity(capacity: Capacity, taken: Taken) -> wire.RuntimeCapacity:
    return wire.RuntimeCapacity(
        cpu_cores=capacity.cpu_cores,
        cpu_cores_taken=taken.cpu_cores,
        memory_bytes=capacity.memory_bytes,
        memory_bytes_taken=taken.memory_bytes,
        disk_bytes=capacity.disk_bytes,
        disk_bytes_taken=disk_taken(capacity, taken),
        devices=len(capacity.devices),
        devices_taken=len(taken.devices),
    )


def _server(row: ServerRow) -> wire.Server:
    return wire.Server(
        id=row.id,
        name=row.name,
        version=row.version,
        started_at=row.started_at,
        runtimes=[str(runtime) for runtime in row.runtimes],
        lease_until=row.lease_until,
    )


def _part(part: PartHealth) -> wire.Part:
    return wire.Part(
        name=part.name,
        ok=part.ok,
        needed=part.needed,
        message=part.message,
        at=part.at,
        details={name: value if isinstance(value, int | float) else str(value) for name, value in part.details.items()},
    )
