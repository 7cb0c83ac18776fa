"""Asking for a key: the command shows a code, the person confirms the same code where they are signed in."""

import webbrowser

from neuropod.cli.commands import UserCall
from neuropod.client.accounts import Accounts
from neuropod.kit.errors import NotFoundError
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.wire.accounts import ApiKeyCreated, KeyRequestCreated
from neuropod.words import Scope


def asked_key(
    call: UserCall, accounts: Accounts, name: str, scopes: list[Scope], *, browser: bool = False
) -> ApiKeyCreated:
    """Return a key that somebody confirmed. Raises CommandError when they refuse, or do not in time."""
    request = accounts.ask_for_key(name, scopes)
    screen = call.screen
    screen.note("Open this in a browser where you are signed in, and confirm it if it shows the same code:")
    screen.note(f"\n  {request.url}\n  {request.code}\n")
    if browser and not webbrowser.open(request.url):
        screen.note("No browser could be opened here; open the link yourself.")
    try:
        return _claimed(call, accounts, request)
    except KeyboardInterrupt:
        raise CommandError("not waiting any longer; no key was made", exit_code=Exit.INTERRUPTED) from None


def _claimed(call: UserCall, accounts: Accounts, request: KeyRequestCreated) -> ApiKeyCreated:
    while call.clock.now() < request.expires_at:
        call.sleep(request.interval_seconds)
        try:
            claimed = accounts.claim_key(request)
        except NotFoundError:
            break
        if claimed.status == "refused":
            raise CommandError("it was refused in the browser; no key was made", exit_code=Exit.NOT_ALLOWED)
        if claimed.key is not None:
            return claimed.key
    raise CommandError(
        "nobody confirmed it in time", exit_code=Exit.NOT_SIGNED_IN, hints=("run the command again for a new code",)
    )
