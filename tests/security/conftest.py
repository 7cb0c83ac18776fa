"""The gateway's items run on uvloop, as the server does; the others on whatever they choose."""

import asyncio

import uvloop

_GATEWAY = {"test_03", *(f"test_{number}" for number in range(17, 26))}


def pytest_asyncio_loop_factories(config, item):
    if item.path.name[:7] in _GATEWAY:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
