"""`neuropod down`: ends all workloads of this machine, and the server where one runs. The wishes stay."""

import asyncio

import click

from neuropod.kit.clock import Clock, SystemClock
from neuropod.kit.lockfile import is_locked
from neuropod.kit.terminal.commands import Call, Command
from neuropod.kit.terminal.exits import CommandError
from neuropod.operate.asked import read_settings
from neuropod.operate.machine import acts_on
from neuropod.server.installation import lock_path
from neuropod.settings import Settings
from neuropod.wire.machine import DownDone

_ENDS_WITHIN_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@click.command("down", cls=Command, examples=["neuropod down", "neuropod down --stop-pods"])
@click.option("--stop-pods", is_flag=True, help="Also set all pods stopped, so that they stay so at the next start.")
@click.pass_obj
def down(call: Call, stop_pods: bool) -> None:
    """End the server and everything it runs on this machine.

    Pods keep their wish: the next `neuropod up`, or one after a reboot, starts them again.
    """
    settings = read_settings()
    call.screen.note("Ending what runs; a pod may take up to its grace of " + _grace(settings) + " …")
    done = asyncio.run(_down(settings, SystemClock(), stop_pods=stop_pods))
    if call.screen.json:
        call.screen.data(done.model_dump(mode="json"))
        return
    call.screen.say(_sentence(done, call.program, stop_pods=stop_pods))


def _grace(settings: Settings) -> str:
    return f"{settings.reconcile.stop_grace_seconds} s"


async def _down(settings: Settings, clock: Clock, *, stop_pods: bool) -> DownDone:
    async with acts_on(settings, clock) as acts:
        done = await acts.down(stop_pods=stop_pods)
    ends = clock.monotonic() + _ENDS_WITHIN_SECONDS
    while is_locked(lock_path(settings)):
        if clock.monotonic() > ends:
            raise CommandError("the workloads have ended, and the server has not; end its process, and look at its log")
        await clock.sleep(_LOOK_SECONDS)
    return done


def _sentence(done: DownDone, program: str, *, stop_pods: bool) -> str:
    workloads = "one workload was" if done.workloads_ended == 1 else f"{done.workloads_ended} workloads were"
    if stop_pods:
        return f"Down: {workloads} ended. All pods are set stopped; start them one by one after `{program} up`."
    return f"Down: {workloads} ended. `{program} up` starts the pods again that were to run."
