"""The entry of the machine's commands."""

import asyncio
import sys

import click
import uvloop
from pydantic import ValidationError
from sqlalchemy import update

from neuropod import __version__
from neuropod.api.machine import Machine
from neuropod.db.installation import InstallationRow
from neuropod.gateway.gate import DoorkeeperUnavailableError
from neuropod.kit.clock import SystemClock
from neuropod.observability.logs import configure
from neuropod.operate import doctor as doctors
from neuropod.operate import down as downs
from neuropod.operate import up as ups
from neuropod.operate.machine import alone, ask_server, server_runs
from neuropod.server.gateway import serve_gateway
from neuropod.server.installation import Installation
from neuropod.server.serving import ServerFailedError
from neuropod.settings import Settings
from neuropod.wire.machine import SignInLinkAsk, SignInLinkMade, UserCreate, UserCreated
from neuropod.words import Role


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"  {_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise click.ClickException("these settings are wrong:\n" + "\n".join(wrong)) from error


def _variable(place: tuple[int | str, ...]) -> str:
    return "NEUROPOD_" + "__".join(str(part).upper() for part in place) if place else "settings"


@click.group("neuropod", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neuropod")
def main() -> None:
    """Run and look after Neuropod on this machine; the user's commands are listed by `neuropod --help`."""


@main.command()
def up() -> None:
    """Run Neuropod on this machine, in the foreground.

    \b
    Examples:
      neuropod up
      NEUROPOD_PORT=9000 NEUROPOD_DATA_DIR=/srv/neuropod neuropod up
    """
    ups.run(_settings())


@main.command()
@click.option("--stop-pods", is_flag=True, help="Also set the pods stopped, so that they stay so.")
def down(stop_pods: bool) -> None:
    """End all workloads of this machine, and the server.

    What should run starts again with the next `up`, also after a reboot.

    \b
    Examples:
      neuropod down
      neuropod down --stop-pods
    """
    downs.run(_settings(), stop_pods=stop_pods)


@main.command()
@click.option("--listen", metavar="HOST:PORT", required=True, help="Where to listen.")
def gateway(listen: str) -> None:
    """Run a gateway of its own: a restart of the server then cuts no stream.

    \b
    Examples:
      neuropod gateway --listen 127.0.0.1:8081
    """
    host, _, port = listen.rpartition(":")
    if not (host and port.isdigit()):
        raise click.UsageError(f"--listen {listen!r} is not HOST:PORT, as in 127.0.0.1:8081")
    settings = _settings()
    configure(settings.log_format, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_gateway(settings, host=host.strip("[]"), port=int(port), clock=SystemClock()))
    except DoorkeeperUnavailableError as error:
        raise click.ClickException(f"no server runs on {settings.data_dir}: start it first ({error})") from error
    except (OSError, ServerFailedError) as error:
        raise click.ClickException(f"the gateway cannot run at {listen}: {error}") from error


@main.command()
def doctor() -> None:
    """Tell what this machine can and cannot isolate, and what is wrong.

    \b
    Examples:
      neuropod doctor
    """
    if not doctors.run(_settings()):
        sys.exit(1)


@main.group()
def admin() -> None:
    """People and one-time links, without signing in: whoever owns the machine may."""


@admin.command("sign-in-link")
@click.argument("email", required=False)
def sign_in_link(email: str | None) -> None:
    """Make a one-time sign-in link, by default for the first administrator.

    \b
    Examples:
      neuropod admin sign-in-link
      neuropod admin sign-in-link ada@example.org
    """
    settings = _settings()
    if server_runs(settings):
        made = ask_server(settings, SignInLinkMade, "POST", "/machine/sign-in-link", SignInLinkAsk(email=email))
    else:

        async def act(_: Installation, machine: Machine) -> SignInLinkMade:
            return await machine.sign_in_link(email)

        made = alone(settings, act)
    click.echo(made.url)


@admin.command("create-user")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.CLIENT.value, show_default=True)
@click.option("--name", help="How they are called. Default: from the address.")
def create_user(email: str, role: str, name: str | None) -> None:
    """Make a person, and print the link with which they sign in for the first time.

    \b
    Examples:
      neuropod admin create-user ada@example.org
      neuropod admin create-user root@example.org --role admin
    """
    settings = _settings()
    if server_runs(settings):
        body = UserCreate(email=email, role=Role(role), name=name)
        made = ask_server(settings, UserCreated, "POST", "/machine/users", body)
    else:

        async def act(_: Installation, machine: Machine) -> UserCreated:
            return await machine.create_user(email, Role(role), name)

        made = alone(settings, act)
    click.echo(f"{made.email} ({made.role}) signs in for the first time with\n{made.link.url}")


@admin.command("confirm-epoch")
def confirm_epoch() -> None:
    """Say that the database is right after a restore: workloads that belong to no pod are removed again.

    \b
    Examples:
      neuropod admin confirm-epoch
    """
    settings = _settings()
    if server_runs(settings):
        raise click.ClickException("stop the server first (Ctrl-C): it reads the epoch when it starts")

    async def act(here: Installation, _: Machine) -> None:
        async with here.database.write() as session:
            await session.execute(update(InstallationRow).values(confirmed_epoch=InstallationRow.epoch))

    alone(settings, act)
    click.echo("Confirmed; sweeps remove what belongs to no pod again.")
