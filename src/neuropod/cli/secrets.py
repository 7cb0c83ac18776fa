"""`neuropod secret …`: values that pods are given and nobody is shown."""

import sys

import click
from pydantic import SecretStr

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.client.secrets import UserSecrets
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago
from neuropod.wire.secrets import SecretSet

_COLUMNS = (Column("NAME"), Column("SET", right=True), Column("PODS", shrinks=True))


@click.group("secret", cls=UserGroup)
def secret() -> None:
    """Values that your pods are given by name, such as tokens; stored encrypted, never shown again."""


@secret.command("ls", examples=["neuropod secret ls", "neuropod secret ls --json"])
@click.pass_obj
def list_(call: UserCall) -> None:
    """List your secrets: when each was set, and which pods use it."""
    found = list(UserSecrets(call.connection()).list_secrets())
    if call.show_json(found):
        return
    if not found:
        call.screen.note(f"No secrets yet. {call.program} secret set HF_TOKEN asks for a value.")
        return
    now = call.clock.now()
    rows = [[one.name, f"{ago(one.set_at, now)} ago", ", ".join(pod.name for pod in one.pods) or "-"] for one in found]
    call.screen.table(list(_COLUMNS), rows, {})


@secret.command("set", examples=["neuropod secret set HF_TOKEN", "neuropod secret set DEPLOY_KEY < key.pem"])
@click.argument("name")
@click.pass_obj
def set_(call: UserCall, name: str) -> None:
    """Keep a value by a name, in place of what was there.

    It is asked for, or read from the standard input, where one newline at its end does not count. Pods that use it are
    given it at their next start.
    """
    if sys.stdin.isatty():
        value: str = click.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    kept = UserSecrets(call.connection()).set_secret(name, SecretSet(value=SecretStr(value)))
    if call.show_json(kept):
        return
    call.screen.say(f"{kept.name}: set")
    if kept.pods:
        call.screen.note(f"At their next start it is given to: {', '.join(pod.name for pod in kept.pods)}")
    else:
        call.screen.note(f"Give it to a pod: {call.program} pod create NAME … --secret-env {kept.name}={kept.name}")


@secret.command("rm", examples=["neuropod secret rm HF_TOKEN", "neuropod secret rm HF_TOKEN --force"])
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while pods use it; they do not start without it.")
@click.pass_obj
def rm(call: UserCall, name: str, force: bool) -> None:
    """Delete a secret."""
    UserSecrets(call.connection()).delete_secret(name, force=force)
    if not call.screen.json:
        call.screen.say(f"{name}: deleted")
