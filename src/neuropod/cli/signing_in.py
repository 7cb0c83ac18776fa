"""`neuropod login`, `logout`, `whoami`, `profile …`: which server, and who one is there."""

import platform
import re
import sys

import click

from neuropod.cli.asking import asked_key
from neuropod.cli.commands import UserCall, UserCommand
from neuropod.client.accounts import Accounts
from neuropod.client.localhost import is_loopback
from neuropod.client.profile import Profile, normal_url
from neuropod.kit.errors import NeuropodError
from neuropod.kit.terminal.commands import Group, choice_of
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.kit.terminal.tables import Column
from neuropod.words import Scope

_SCOPES = [Scope.READ, Scope.WRITE, Scope.ADMIN]  # `admin` is left out for those who are no administrators
_PROFILE_COLUMNS = (Column(""), Column("NAME"), Column("SERVER"))


@click.command(
    "login",
    cls=UserCommand,
    examples=[
        "neuropod login https://app.neuropod.example.org",
        "neuropod login app.neuropod.localhost:8080 --profile lab",
        "echo $KEY | neuropod login https://app.neuropod.example.org --key-stdin",
    ],
)
@click.argument("url", required=False)
@click.option("--scope", "scopes", multiple=True, type=choice_of(Scope),
              help="What the key may do. Repeatable. Default: all that you may, but visit ports.")  # fmt: skip
@click.option("--key-stdin", is_flag=True, help="Take a key that you have from standard input.")
@click.option("--browser", is_flag=True, help="Open the page in a browser.")
@click.option("--accept-plain-http", is_flag=True, help="Send the key over plain http, which others may read.")
@click.pass_obj
def login(
    call: UserCall, url: str | None, scopes: tuple[str, ...], key_stdin: bool, browser: bool, accept_plain_http: bool
) -> None:
    """Sign in to a server.

    Shows a code that you confirm in a browser, and keeps the key in your profile file; from then on the other
    commands talk to that server. Without URL: the server of the profile in force.
    """
    url = normal_url(url) if url is not None else call.target().url
    if url.startswith("http:") and not (is_loopback(_host(url)) or accept_plain_http):
        hint = "use https://, or say --accept-plain-http where you trust the network"
        raise CommandError(f"{url} would carry your key in the open", exit_code=Exit.USAGE, hints=(hint,))
    if key_stdin:
        key = sys.stdin.readline().strip()
    else:
        wanted = [Scope(scope) for scope in scopes] or _SCOPES
        key = asked_key(
            call, Accounts(call.connect(url, None)), f"neuropod on {platform.node() or 'a machine'}"[:100], wanted,
            browser=browser,
        ).key  # fmt: skip
    me = Accounts(call.connect(url, key)).show_me()
    name = call.profile or call.environ.get("NEUROPOD_PROFILE") or _name(url)
    call.profiles.save(name, Profile(url, key))
    if call.screen.json:
        call.screen.data({"profile": name, "url": url, "me": me.model_dump(mode="json")})
        return
    call.screen.say(f"Signed in at {url} as {me.email} (profile {name}).")
    _note_environment(call)


def _host(url: str) -> str:
    return re.sub(r"^\w+://|:\d+$", "", url)


def _name(url: str) -> str:
    """Return a name for a server's profile: its host, without what stands for the console or the API."""
    host = _host(url).strip("[]").removeprefix("app.").removeprefix("api.")
    return re.sub(r"[^A-Za-z0-9._-]", "-", host).strip("-.") or "server"


def _note_environment(call: UserCall) -> None:
    if call.environ.get("NEUROPOD_URL") or call.environ.get("NEUROPOD_API_KEY"):
        call.screen.note("NEUROPOD_URL or NEUROPOD_API_KEY is set here and comes before every profile.")


@click.command("logout", cls=UserCommand, examples=["neuropod logout", "neuropod logout --profile lab"])
@click.pass_obj
def logout(call: UserCall) -> None:
    """Forget the server in force and its key. The key itself counts until somebody revokes it."""
    name = call.target().profile
    if name is None:
        raise CommandError(
            "the server comes from NEUROPOD_URL and NEUROPOD_API_KEY, not from a profile",
            exit_code=Exit.USAGE,
            hints=("unset them, or name a profile: neuropod logout --profile NAME",),
        )
    dropped = call.profiles.drop(name)
    if call.screen.json:
        call.screen.data({"profile": name, "url": dropped.url})
        return
    call.screen.say(f"Signed out of {dropped.url} (profile {name}).")
    call.screen.note(
        f"Its key {dropped.key[:10]}… is forgotten here; in the key list of another sign-in it can be revoked."
    )


@click.command("whoami", cls=UserCommand, examples=["neuropod whoami", "neuropod whoami --json"])
@click.pass_obj
def whoami(call: UserCall) -> None:
    """Show where you are signed in, as whom, and what your key may do."""
    target = call.target()
    me = Accounts(call.connection()).show_me()
    if call.screen.json:
        call.screen.data({"url": target.url, "profile": target.profile, "me": me.model_dump(mode="json")})
        return
    call.screen.fields([
        ("Server", target.url),
        ("Profile", target.profile or "none: from the environment"),
        ("Person", f"{me.email} ({me.name})"),
        ("Role", str(me.role)),
        ("Key may", ", ".join(me.scopes)),
    ])  # fmt: skip


@click.group("profile", cls=Group)
def profile() -> None:
    """Choose between the servers that you signed in to."""


@profile.command("ls", examples=["neuropod profile ls"])
@click.pass_obj
def list_(call: UserCall) -> None:
    """List servers; the one in force is marked."""
    found = call.profiles.read()
    try:
        in_force = call.target().profile
    except NeuropodError:
        in_force = None
    if call.screen.json:
        rows = [{"name": name, "url": one.url, "in_force": name == in_force} for name, one in found.by_name.items()]
        call.screen.data(rows)
        return
    if not found.by_name:
        call.screen.note(
            f"No server is known here. Start one: {call.program} up   Or sign in: {call.program} login URL"
        )
        return
    call.screen.table(
        _PROFILE_COLUMNS,
        [["*" if name == in_force else "", name, one.url] for name, one in found.by_name.items()],
    )
    _note_environment(call)


@profile.command("use", examples=["neuropod profile use lab"])
@click.argument("name")
@click.pass_obj
def use(call: UserCall, name: str) -> None:
    """Let the commands talk to another server."""
    call.profiles.use(name)
    if call.screen.json:
        call.screen.data({"profile": name})
    else:
        call.screen.say(f"The commands talk to {call.profiles.read().by_name[name].url} now (profile {name}).")
    _note_environment(call)
