"""`neuropod login`, `logout`, `whoami`, `key …`: which server, and who one is there."""

import platform
import sys
import time

import click

from neuropod.cli.context import Shared, as_json, shared, show_json, show_table
from neuropod.cli.outcome import Ended, Exit, explained
from neuropod.cli.text import ago, clean_line
from neuropod.client.api import Api
from neuropod.client.http import Http
from neuropod.client.profile import DEFAULT, Profile, drop_profile, save_profile
from neuropod.words import Scope

_HERE = "http://api.neuropod.localhost:8080"
_SCOPES = [Scope.READ, Scope.WRITE, Scope.PORTS]


@click.command("login")
@click.argument("url", default=_HERE)
@click.option("--with-key", metavar="KEY", help="Use this API key instead of asking for one ('-' reads it).")
@click.option("--admin", is_flag=True, help="Ask for administrators' rights as well.")
@shared
@explained
def login(use: Shared, /, url: str, with_key: str | None, admin: bool) -> None:
    """Sign in to a server: shows a page on which you confirm, and keeps the key in the profile.

    \b
    Examples:
      neuropod login https://api.pods.example.org
      neuropod --profile work login https://api.pods.example.org
      neuropod login --with-key - < key.txt
    """
    url = url if "://" in url else f"https://{url}"
    if with_key == "-":
        with_key = sys.stdin.readline().strip()
    key = with_key or _asked_key(Api(Http(url, None)), [*_SCOPES, *([Scope.ADMIN] if admin else [])])
    me = Api(Http(url, key)).me()
    path = save_profile(Profile(url.rstrip("/"), key), use.profile or DEFAULT)
    click.echo(f"Signed in to {url} as {clean_line(me.email)}; the key is in {path}.")


def _asked_key(api: Api, scopes: list[Scope]) -> str:
    asked = api.ask_for_key(f"neuropod on {platform.node() or 'a computer'}"[:100], scopes)
    click.echo(
        f"Open this page and confirm the code {clean_line(asked.code)}:\n\n  {clean_line(asked.url)}\n", err=True
    )
    while True:
        time.sleep(max(1, asked.interval_seconds))
        claimed = api.claim_key(asked.id, asked.secret)
        if claimed.key is not None:
            return claimed.key.key
        if claimed.status == "refused":
            raise Ended("it was refused on the page", Exit.FORBIDDEN)


@click.command("logout")
@shared
@explained
def logout(use: Shared, /) -> None:
    """Forget the key of the profile. It is revoked on the console, or with `neuropod key ls` you see it.

    \b
    Examples:
      neuropod logout
    """
    name = use.profile or DEFAULT
    click.echo(f"Forgot profile {name}." if drop_profile(name) else f"There is no profile {name}.")


@click.command("whoami")
@as_json
@shared
@explained
def whoami(use: Shared, /, as_json: bool) -> None:
    """Show who the key belongs to and what it may do.

    \b
    Examples:
      neuropod whoami
    """
    me = use.api.me()
    if as_json:
        show_json(me)
    else:
        click.echo(clean_line(f"{me.email} ({me.role}); this key may: {', '.join(me.scopes)}"))


@click.group("key")
def key() -> None:
    """Look at API keys. They are made and revoked on the console, by a person."""


@key.command("ls")
@as_json
@shared
@explained
def ls_keys(use: Shared, /, as_json: bool) -> None:
    """List your API keys.

    \b
    Examples:
      neuropod key ls
    """
    found = list(use.api.keys())
    if as_json:
        show_json(found)
        return
    rows = [[one.name, f"{one.prefix}…", ", ".join(one.scopes), ago(one.used_at)] for one in found]
    show_table(["NAME", "KEY", "SCOPES", "LAST USED"], rows, "No keys yet. Sign in with `neuropod login`.")
