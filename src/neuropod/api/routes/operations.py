"""`/healthz`, `/readyz` (on any host, for anybody) and `/metrics` (for operators, SECURITY 34)."""

from fastapi import APIRouter, Response

from neuropod.api.deps import Anybody, Operator

_DATABASE_SECONDS = 3.0

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Response:
    """Say that the process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(asking: Anybody) -> Response:
    """Say whether the database and every part that is needed are ok. Which one is not, operators read in the system."""
    if asking.parts.board.ready and await asking.parts.database.answers(_DATABASE_SECONDS):
        return Response("ready\n", media_type="text/plain")
    return Response("not ready\n", 503, media_type="text/plain")


@router.get("/metrics")
async def metrics(caller: Operator) -> Response:
    """Return the metrics in the Prometheus text format."""
    parts = caller.parts
    up = parts.metrics.gauge("part_ok", "Whether a part of the server is ok.", ("part",))
    for part in parts.board.parts():
        up.labels(part.name).set(part.ok)
    writes = parts.metrics.gauge("write_transactions", "Write transactions since the start.")
    writes.set(parts.database.write_transactions)
    return Response(parts.metrics.render(), headers={"Content-Type": parts.metrics.content_type})
