"""`neuropod session …` and `neuropod me passwd`: where one is signed in, and one's password."""

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.person import console_of, typed_password
from neuropod.client.accounts import Accounts, session_of
from neuropod.client.users import Users
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago, local_time

_COLUMNS = (
    Column("ID"),
    Column("LAST USED"),
    Column("FROM"),
    Column("ENDS"),
    Column("BROWSER", shrinks=True),
)


@click.group("session", cls=UserGroup)
def session() -> None:
    """See where you are signed in, and sign out there."""


@session.command("ls", examples=["neuropod session ls", "neuropod session ls --user ada@example.org"])
@click.option("--user", metavar="USER", help="Somebody else's; for administrators.")
@click.pass_obj
def list_(call: UserCall, user: str | None) -> None:
    """List the browsers that are signed in, newest first."""
    found = list(Users(call.connection()).list_sessions(user))
    if call.show_json(found):
        return
    now = call.clock.now()
    rows = [[one.id, ago(one.used_at, now), one.address, local_time(one.expires_at), one.user_agent] for one in found]
    if rows:
        call.screen.table(_COLUMNS, rows)
    else:
        call.screen.note("No browser is signed in.")


@session.command(
    "rm",
    examples=[
        "neuropod session rm ses_01j8…",
        "neuropod session rm --all",
        "neuropod session rm --all --user ada@example.org",
    ],
)
@click.argument("session_id", metavar="ID", required=False)
@click.option("--all", "everywhere", is_flag=True, help="Sign out everywhere. API keys stay.")
@click.option("--user", metavar="USER", help="Somebody else's; for administrators.")
@click.pass_obj
def rm(call: UserCall, session_id: str | None, everywhere: bool, user: str | None) -> None:
    """Sign a browser out. What it has open at pods is cut within seconds."""
    if (session_id is None) != everywhere:
        raise click.UsageError("name a session by its id (see `neuropod session ls`), or say --all")
    users = Users(call.connection())
    count = 1
    if session_id is None:
        count = users.revoke_sessions(user)
    else:
        users.revoke_session(session_id, user)
    if call.screen.json:
        call.screen.data({"revoked": count})
    else:
        call.screen.say(f"Signed out {count} browser{'' if count == 1 else 's'}.")


@click.group("me", cls=UserGroup)
def me() -> None:
    """Change things about yourself."""


@me.command("passwd", examples=["neuropod me passwd"])
@click.pass_obj
def passwd(call: UserCall) -> None:
    """Set a new password. All your sessions in browsers end; API keys stay.

    Without a terminal: the present one and the new one, a line each on standard input.
    """
    mine = Accounts(call.connection()).show_me()
    console = console_of(call)
    if not mine.has_password:
        raise CommandError(
            "you have no password yet; a browser where you are signed in sets the first",
            exit_code=Exit.CONFLICT,
            hints=(f"open {console}/password",),
        )
    current = typed_password(f"Present password of {mine.email}")
    with session_of(call.connect(console, None), mine.email, current) as person:
        person.set_password(typed_password("New password", twice=True), current)
    if call.screen.json:
        call.screen.data({"email": mine.email, "changed": True})
    else:
        call.screen.say("Your password is changed; browsers have to sign in anew.")
