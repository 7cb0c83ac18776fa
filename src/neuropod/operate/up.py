"""`neuropod up`: the server in the foreground.

It also writes the profile with which the commands of the same user reach it, so that another terminal works at once.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from neuropod import __version__
from neuropod.client.profile import MACHINE, Profile, ProfileFile
from neuropod.kit.clock import SystemClock
from neuropod.kit.collector import collect_rarely
from neuropod.kit.errors import NeuropodError
from neuropod.kit.lockfile import exclusive
from neuropod.kit.terminal.commands import Call, Command
from neuropod.kit.terminal.exits import CommandError
from neuropod.operate import told
from neuropod.operate.asked import passed_over, read_settings
from neuropod.operate.failures import clear_failures
from neuropod.server.installation import lock_path
from neuropod.server.serving import Started, serve
from neuropod.settings import Settings

T = TypeVar("T")

_ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - what stands for all addresses


@click.command("up", cls=Command, examples=["neuropod up", "NEUROPOD_PORT=8090 neuropod up"])
@click.pass_obj
def up(call: Call) -> None:
    """Run Neuropod on this machine, in the foreground.

    Sets up the data directory at its first start, brings the database up to date, and prints the address and a link
    that signs the first administrator in. Ctrl-C stops the server and leaves pods running.
    """
    settings = read_settings()

    def ready(started: Started) -> None:
        use = _write_profile(started, settings, call.program)
        if call.screen.json:
            call.screen.data(_as_json(started, settings))
            return
        for line in told.started(started, settings, version=__version__, program=call.program, use=use):
            call.screen.say(line)

    call.screen.note("Starting Neuropod …")
    for sentence in passed_over():
        call.screen.note(sentence)
    with clear_failures(settings):
        _refuse_second(settings)
        pods_run_on = run_to_its_end(serve(settings, ready=ready, clock=SystemClock()))
    what = (
        f"Pods run on as they were; `{call.program} up` takes them up again, `{call.program} down` ends them."
        if pods_run_on
        else f"All workloads were ended; what should run starts again with `{call.program} up`."
    )
    call.screen.note(f"\nThe server has stopped. {what}")


def _refuse_second(settings: Settings) -> None:
    """Raise LockedError at once for a data directory in use: it names the process, which a port in use cannot."""
    if settings.data_dir.is_dir():
        with exclusive(lock_path(settings)):
            pass


def run_to_its_end(main: Coroutine[Any, Any, T]) -> T:
    """Run a server as it is measured: on uvloop, where there is one, and with a collector that looks less often."""
    collect_rarely()
    if sys.platform != "linux":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - Linux alone has it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _write_profile(started: Started, settings: Settings, program: str) -> str:
    """Write the profile, and return what has to be said about it."""
    profile = Profile(url=own_url(started, settings), key=started.cli_key)
    try:
        in_force = ProfileFile.of_user().save_machine(profile)
    except (NeuropodError, CommandError, OSError) as error:
        return f"The commands' profile could not be written: {error}"
    if in_force:
        return ""
    return (
        f"The commands use another profile at present. For this server: {program} pod ls --profile {MACHINE}, "
        f"or for good: {program} profile use {MACHINE}"
    )


def own_url(started: Started, settings: Settings) -> str:
    """Return the address under which this machine's commands reach the server: its own, but by name where TLS is."""
    if settings.tls_cert_file is not None:
        return started.addresses.console_origin
    host = _ANY.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{started.port}"


def _as_json(started: Started, settings: Settings) -> dict[str, Any]:
    return {
        "version": __version__,
        "console_url": started.addresses.console_origin,
        "sign_in_link": started.sign_in_link,
        "data_dir": str(settings.data_dir.absolute()),
        "port": started.port,
        "runtimes": {
            runtime: {
                "mode": report.mode,
                "guarantees": [
                    {"name": one.name, "holds": one.holds, "message": one.message} for one in report.guarantees
                ],
                "notes": list(report.notes),
            }
            for runtime, report in started.reports.items()
        },
    }
