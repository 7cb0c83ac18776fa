"""`neuropod down`: ends all workloads of this machine; the wishes stay, unless `--stop-pods` changes them too."""

import time

import click

from neuropod.api.machine import Machine
from neuropod.operate.machine import alone, ask_server, server_runs
from neuropod.reconcile.down import end_workloads
from neuropod.server.installation import Installation
from neuropod.settings import Settings
from neuropod.wire.machine import Down, DownDone

_ENDS_SECONDS = 30.0


def run(settings: Settings, *, stop_pods: bool) -> None:
    """End workloads, and the server if one runs."""
    if server_runs(settings):
        done = ask_server(settings, DownDone, "POST", "/machine/down", Down(stop_pods=stop_pods))
        _await_end(settings)
    elif settings.database_url is None and not (settings.data_dir / "db").exists():
        click.echo(f"There is nothing at {settings.data_dir}: no server ever ran on it.")
        return
    else:

        async def act(here: Installation, machine: Machine) -> DownDone:
            stopped = await machine.stop_pods() if stop_pods else 0
            ended = await end_workloads(
                here.runtimes.values(), here.clock, grace_seconds=here.settings.reconcile.stop_grace_seconds
            )
            return DownDone(workloads_ended=ended, pods_stopped=stopped)

        done = alone(settings, act)
    click.echo(f"Ended {done.workloads_ended} workload{'' if done.workloads_ended == 1 else 's'}.")
    if stop_pods:
        click.echo(f"Pods set stopped: {done.pods_stopped}.")
    else:
        click.echo("What should run starts again with the next `neuropod up`.")


def _await_end(settings: Settings) -> None:
    ends = time.monotonic() + _ENDS_SECONDS
    while server_runs(settings):
        if time.monotonic() > ends:
            raise click.ClickException("the workloads have ended, and the server does not end; stop it with Ctrl-C")
        time.sleep(0.1)
