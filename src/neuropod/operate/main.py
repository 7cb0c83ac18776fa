"""The entry of the machine's commands. `neuropod.__main__` chooses between these and the user's (`cli`)."""

import sys
from collections.abc import Sequence

import click

from neuropod import __version__
from neuropod.kit.errors import NeuropodError
from neuropod.kit.terminal.commands import ROOT_SETTINGS, Advice, Call, Group, program_name, run, standard_screen

_MODULES = {
    "up": "neuropod.operate.up:up",
    "down": "neuropod.operate.down:down",
    "gateway": "neuropod.operate.gateway:gateway",
    "doctor": "neuropod.operate.doctor:doctor",
    "backup": "neuropod.operate.backup:backup",
    "restore": "neuropod.operate.restore:restore",
    "admin": "neuropod.operate.admin:admin",
}


@click.group("neuropod", cls=Group, modules=_MODULES, context_settings=ROOT_SETTINGS)
@click.version_option(__version__, prog_name="neuropod")
def root() -> None:
    """Run and look after Neuropod on this machine."""


def hints(error: NeuropodError, call: Call) -> Sequence[str]:
    """Say what to do about an error of an act."""
    match error.code:
        case "not_found":
            return [f"make a person with: {call.program} admin create-user EMAIL"]
        case "name_taken":
            return [f"for a link into an account that is there: {call.program} admin sign-in-link EMAIL"]
        case _:
            return []


def main() -> None:
    """Run the command of the argument list and end the process."""
    sys.exit(run(root, Call(standard_screen(), program_name()), sys.argv[1:], advice=Advice(hints, {})))
