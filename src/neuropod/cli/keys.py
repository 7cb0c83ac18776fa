"""`neuropod key …`: API keys for programs. Keys are made and revoked by people, never by keys (SECURITY 27).

So `create` asks for a confirmation in the browser, and both take a password instead where there is no browser.
"""

import sys
from datetime import datetime, timedelta

import click

from neuropod.cli.asking import asked_key
from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.person import signed_in
from neuropod.client.accounts import Accounts
from neuropod.client.users import Users
from neuropod.kit.errors import NotFoundError
from neuropod.kit.terminal.commands import choice_of
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago, local_time
from neuropod.wire.accounts import ApiKey, ApiKeyCreated
from neuropod.words import Scope

_COLUMNS = (
    Column("NAME", shrinks=True),
    Column("KEY"),
    Column("MAY"),
    Column("LAST USED"),
    Column("ENDS"),
    Column("ID"),
)


@click.group("key", cls=UserGroup)
def key() -> None:
    """Make, list and revoke API keys."""


@key.command("ls", examples=["neuropod key ls", "neuropod key ls --user ada@example.org"])
@click.option("--user", metavar="USER", help="Somebody else's; for administrators.")
@click.pass_obj
def list_(call: UserCall, user: str | None) -> None:
    """List your keys. The keys themselves are kept nowhere."""
    found = list(Accounts(call.connection()).list_keys() if user is None else Users(call.connection()).list_keys(user))
    if call.show_json(found):
        return
    now = call.clock.now()
    rows = [
        [
            one.name,
            f"{one.prefix}…",
            ", ".join(one.scopes),
            ago(one.used_at, now),
            "never" if one.expires_at is None else local_time(one.expires_at),
            one.id,
        ]
        for one in found
    ]
    if rows:
        call.screen.table(_COLUMNS, rows)
    elif user is not None:
        call.screen.note("They have no keys.")
    else:
        call.screen.note(f"No keys yet. Make one: {call.program} key create ci --scope read")


@key.command(
    "create",
    examples=[
        "neuropod key create ci --scope read --scope write",
        "neuropod key create visits --scope ports --password --days 30",
    ],
)
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=choice_of(Scope), help="What it may do. Repeatable.")
@click.option("--password", is_flag=True, help="Sign in with your password instead of confirming in a browser.")
@click.option("--days", type=click.IntRange(1), help="End it after so many days; with --password.")
@click.pass_obj
def create(call: UserCall, name: str, scopes: tuple[str, ...], password: bool, days: int | None) -> None:
    """Make a key, and print it, this once. Default: it may read and write."""
    if days is not None and not password:
        raise click.UsageError("--days needs --password")
    chosen = [Scope(scope) for scope in scopes] or [Scope.READ, Scope.WRITE]
    if password:
        ends_at = None if days is None else call.clock.now() + timedelta(days=days)
        made = _made_with_password(call, name, chosen, ends_at)
    else:
        made = asked_key(call, Accounts(call.connection()), name, chosen)
    if not call.show_json(made):
        call.screen.say(made.key)
        call.screen.note("This is the key. It is shown this once; keep it where your program finds it.")


def _made_with_password(call: UserCall, name: str, scopes: list[Scope], ends_at: datetime | None) -> ApiKeyCreated:
    with signed_in(call) as person:
        return person.create_key(name, scopes, expires_at=ends_at)


@key.command(
    "rm",
    examples=[
        "neuropod key rm key_01j8…",
        "neuropod key rm ci --yes",
        "neuropod key rm key_01j8… --user ada@example.org",
    ],
)
@click.argument("which", metavar="ID|NAME")
@click.option("--user", metavar="USER", help="Somebody else's; for administrators, without a password.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(call: UserCall, which: str, user: str | None, yes: bool) -> None:
    """Revoke a key, with your password. It counts for nothing from then on, at pods within seconds."""
    users = Users(call.connection())
    found = _the_key(list(Accounts(call.connection()).list_keys() if user is None else users.list_keys(user)), which)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Revoke {found.name} ({found.prefix}…)?", abort=True, err=True)
    if user is not None:
        users.revoke_key(user, found.id)
    else:
        with signed_in(call) as person:
            person.revoke_key(found.id)
    if call.screen.json:
        call.screen.data({"id": found.id, "revoked": True})
    else:
        call.screen.say(f"{found.name} ({found.prefix}…) is revoked.")


def _the_key(keys: list[ApiKey], which: str) -> ApiKey:
    named = [one for one in keys if one.id == which] or [one for one in keys if one.name == which]
    if not named:
        raise NotFoundError(f"there is no key {which!r}", code="no_key")
    if len(named) > 1:
        raise click.UsageError(f"{len(named)} keys are called {which!r}; name one by its id (`neuropod key ls`)")
    return named[0]
