"""Acting as a person, by password, where a key may not (SECURITY 27): keys, roles, sign-in links, one's password."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from neuropod.cli.commands import UserCall
from neuropod.client.accounts import Accounts, Person, session_of
from neuropod.client.offers import Offers


def console_of(call: UserCall) -> str:
    """Return the console's own address, the only one where a password counts."""
    return Offers(call.connection()).show_system().console_url


def typed_password(prompt: str, *, twice: bool = False) -> str:
    """Return a password: on a terminal typed unseen, otherwise the next line of standard input."""
    if sys.stdin.isatty():
        password: str = click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=twice)
        return password
    return sys.stdin.readline().rstrip("\n")


@contextmanager
def signed_in(call: UserCall) -> Iterator[Person]:
    """Ask for the password of whom the key belongs to, and act as them until the end of the block."""
    email = Accounts(call.connection()).show_me().email
    password = typed_password(f"Password of {email}")
    with session_of(call.connect(console_of(call), None), email, password) as person:
        yield person
