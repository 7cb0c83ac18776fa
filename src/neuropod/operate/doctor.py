"""`neuropod doctor`: what this machine can and cannot isolate, and what is wrong, with a server running or without."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import click

from neuropod.kit.clock import SystemClock
from neuropod.kit.lockfile import is_locked
from neuropod.kit.terminal.commands import Call, Command
from neuropod.kit.terminal.exits import CommandError
from neuropod.operate import told
from neuropod.operate.asked import read_settings
from neuropod.operate.machine import acts_on
from neuropod.server.installation import lock_path
from neuropod.settings import Settings
from neuropod.wire.system import Part, System


@click.command("doctor", cls=Command, examples=["neuropod doctor", "neuropod doctor --json"])
@click.pass_obj
def doctor(call: Call) -> None:
    """Tell what this machine can and cannot isolate, and what is wrong with the server.

    Works with a server and without; on a fresh machine it leaves nothing behind. Ends with 1 where pods cannot run or a
    part of the server that it needs is not well.
    """
    settings = read_settings()
    running = lock_path(settings).exists() and is_locked(lock_path(settings))
    system = asyncio.run(_looked(settings))
    advice = _advice(settings)
    troubles = _troubles(system)
    if call.screen.json:
        call.screen.data({"running": running, "advice": advice, "troubles": troubles, **system.model_dump(mode="json")})
    else:
        _show(call, settings, system, running=running, advice=advice)
    if troubles:
        raise CommandError("; ".join(troubles))


async def _looked(settings: Settings) -> System:
    """Look at the installation; where there is none yet, at one that is made for the look and removed again."""
    async with AsyncExitStack() as stack:
        if not settings.data_dir.is_dir():
            folder = Path(tempfile.mkdtemp(prefix="npd"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            changed = {"data_dir": folder / "data", "key_file": None, "database_url": None}
            settings = settings.model_copy(update=changed)
            settings.data_dir.mkdir()
        acts = await stack.enter_async_context(acts_on(settings, SystemClock()))
        return await acts.system()


def _show(call: Call, settings: Settings, system: System, *, running: bool, advice: Sequence[str]) -> None:
    screen = call.screen
    state = "running" if running else "not running"
    screen.say(f"Neuropod {system.version}, {state}. Data: {settings.data_dir.absolute()}")
    screen.say()
    away = {one.name: one.why for one in system.unopened or ()}
    for line in (*told.isolation_of_runtimes(system.runtimes), *told.unopened_runtimes(away)):
        screen.say(line)
    if running:
        screen.say("Parts of the server:")
        for part in system.parts or ():
            screen.say(f"  {'ok' if part.ok else 'NOT OK':<7} {part.name:<22} {part.message}".rstrip())
        screen.say()
    for line in advice:
        screen.say(line)


def _troubles(system: System) -> list[str]:
    found = [f"{part.name} is not well: {part.message}" for part in system.parts or () if _is_trouble(part)]
    found += [f"runtime {one.name} cannot be opened: {one.why}" for one in system.unopened or ()]
    found += [f"runtime {one.name} does not answer" for one in system.runtimes if one.capacity is None]
    return found if system.runtimes else ["no runtime is open, so no pod can run", *found]


def _is_trouble(part: Part) -> bool:
    return part.needed and not part.ok


def _advice(settings: Settings) -> list[str]:
    lines = []
    addresses = settings.addresses(settings.port)
    if settings.domain in addresses.by_domain:
        whose = [name for name, address in addresses.pods_of.items() if address.domain == settings.domain]
        pods = f"pods of {', '.join(whose)}" if addresses.pods.domain != settings.domain else "pods"
        lines.append(
            f"Console and {pods} share the domain {settings.domain}: a pod's page can plant cookies there and disturb "
            "signing in. A pods_domain (NEUROPOD_PODS_DOMAIN) gives pods a domain of their own."
        )
    if settings.accept_plain_http and settings.tls_cert_file is None:
        lines.append("Plain http is accepted: passwords and keys travel in the open, and browsers lack safe cookies.")
    if settings.local.accept_no_isolation:
        lines.append("NEUROPOD_LOCAL__ACCEPT_NO_ISOLATION lets everybody launch pods that nothing keeps apart.")
    return lines
