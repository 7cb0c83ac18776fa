"""`neuropod registry …`: who one is where private images come from."""

import sys

import click
from pydantic import SecretStr

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.client.registries import UserRegistries
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago
from neuropod.wire.registries import RegistrySet

_COLUMNS = (Column("HOST"), Column("USER", shrinks=True), Column("SET", right=True))


@click.group("registry", cls=UserGroup)
def registry() -> None:
    """Who you are at registries with private images; passwords are stored encrypted, never shown again."""


@registry.command("ls", examples=["neuropod registry ls", "neuropod registry ls --json"])
@click.pass_obj
def list_(call: UserCall) -> None:
    """List your registries."""
    found = list(UserRegistries(call.connection()).list_registries())
    if call.show_json(found):
        return
    if not found:
        call.screen.note(f"No registries yet. {call.program} registry set ghcr.io --username YOU asks for a password.")
        return
    now = call.clock.now()
    call.screen.table(list(_COLUMNS), [[one.host, one.username, f"{ago(one.set_at, now)} ago"] for one in found], {})


@registry.command(
    "set",
    examples=[
        "neuropod registry set ghcr.io --username ada",
        "neuropod registry set registry.example.org:5000 --username robot < token.txt",
    ],
)
@click.argument("host")
@click.option("--username", "-u", metavar="NAME", required=True, help="Who you are there.")
@click.pass_obj
def set_(call: UserCall, host: str, username: str) -> None:
    """Keep who you are at a registry, in place of what was there; HOST is docker.io for images without one.

    The password or token is asked for, or read from the standard input, where one newline at its end does not count.
    """
    if sys.stdin.isatty():
        password: str = click.prompt(f"Password of {username} at {host}", hide_input=True, err=True)
    else:
        password = sys.stdin.read().removesuffix("\n")
    asked = RegistrySet(username=username, password=SecretStr(password))
    kept = UserRegistries(call.connection()).set_registry(host, asked)
    if call.show_json(kept):
        return
    call.screen.say(f"{kept.host}: set")
    call.screen.note("Your pods' images from there are pulled with it, from each pod's next start on.")


@registry.command("rm", examples=["neuropod registry rm ghcr.io"])
@click.argument("host")
@click.pass_obj
def rm(call: UserCall, host: str) -> None:
    """Forget who you are at a registry. Pods that run go on."""
    UserRegistries(call.connection()).delete_registry(host)
    if not call.screen.json:
        call.screen.say(f"{host}: deleted")
