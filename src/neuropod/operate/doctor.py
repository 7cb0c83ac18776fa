"""`neuropod doctor`: what this machine can and cannot isolate, and what is wrong, with a server running or without."""

import click

from neuropod.api.machine import Machine
from neuropod.operate.machine import alone, ask_server, server_runs
from neuropod.server.installation import Installation
from neuropod.settings import Settings
from neuropod.wire.system import System


def run(settings: Settings) -> bool:
    """Print the findings; tell whether all is well."""
    running = server_runs(settings)
    if running:
        system = ask_server(settings, System, "GET", "/machine/system")
    else:

        async def act(_: Installation, machine: Machine) -> System:
            return await machine.system()

        system = alone(settings, act)
    click.echo(f"Neuropod {system.version}, {'running' if running else 'not running'}, data in {settings.data_dir}")
    for runtime in system.runtimes:
        click.echo(f"\nRuntime {runtime.id} ({runtime.mode}):")
        for guarantee in runtime.guarantees or ():
            click.echo(f"  {'yes' if guarantee.holds else 'NO ':<4}{guarantee.name:<10} {guarantee.message}")
        for note in runtime.notes or ():
            click.echo(f"  {note}")
    if not system.runtimes:
        click.echo("\nNo runtime is open: pods cannot run here. The log of `neuropod up` says why.")
    well = bool(system.runtimes)
    for advice in _advice(settings):
        click.echo(f"\n{advice}")
    if running:
        click.echo("\nParts of the server:")
        for part in system.parts or ():
            click.echo(f"  {'ok' if part.ok else 'NOT OK':<7}{part.name:<22} {part.message}")
            well = well and (part.ok or not part.needed)
    return well


def _advice(settings: Settings) -> list[str]:
    if settings.effective_pods_domain != settings.domain:
        return []
    sentence = (
        f"Pods and console share the domain {settings.domain}: a pod's page can set cookies for it, so that signing in "
        "may be disturbed. Give pods a domain of their own with NEUROPOD_PODS_DOMAIN."
    )
    return [sentence]
