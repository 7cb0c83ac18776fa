"""`neuropod gateway`: the gateway as a process of its own, so that a restart of the server cuts no stream."""

import click

from neuropod.kit.clock import SystemClock
from neuropod.kit.terminal.commands import Call, Command
from neuropod.operate.asked import read_settings
from neuropod.operate.failures import clear_failures
from neuropod.operate.up import run_to_its_end
from neuropod.server.gateway import serve_gateway


@click.command("gateway", cls=Command, examples=["neuropod gateway --listen 0.0.0.0:80"])
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where visitors come in; [::]:80 for IPv6.")
@click.pass_obj
def gateway(call: Call, listen: str) -> None:
    """Run a gateway alone, beside a server on the same data directory.

    It has no database: it learns routes and asks who may pass over the server's own socket. While the server is away
    open streams and known visitors go on, and nobody new is let in.
    """
    host, port = address_of(listen)
    settings = read_settings()
    call.screen.note(f"The gateway listens on {listen}. Ctrl-C stops it and cuts what is open.")
    wanted = settings.model_copy(update={"host": host, "port": port})
    with clear_failures(wanted):
        run_to_its_end(serve_gateway(settings, host=host, port=port, clock=SystemClock()))
    call.screen.note("\nThe gateway has stopped.")


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, as in 0.0.0.0:80", param_hint="--listen")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)
