"""The entry of the user's commands. `neuropod.__main__` chooses between these and the machine's (`operate`)."""

import os
import sys

import click

from neuropod import __version__
from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.hints import ADVICE
from neuropod.kit.terminal.commands import ROOT_SETTINGS, program_name, run, standard_screen

_MODULES = {
    "pod": "neuropod.cli.pods:pod",
    "port": "neuropod.cli.ports:port",
    "template": "neuropod.cli.templates:template",
    "gpu-type": "neuropod.cli.gpu_types:gpu_type",
    "volume": "neuropod.cli.volumes:volume",
    "registry": "neuropod.cli.registries:registry",
    "secret": "neuropod.cli.secrets:secret",
    "key": "neuropod.cli.keys:key",
    "session": "neuropod.cli.sessions:session",
    "me": "neuropod.cli.sessions:me",
    "user": "neuropod.cli.users:user",
    "audit": "neuropod.cli.audit:audit",
    "events": "neuropod.cli.events:events",
    "login": "neuropod.cli.signing_in:login",
    "logout": "neuropod.cli.signing_in:logout",
    "whoami": "neuropod.cli.signing_in:whoami",
    "profile": "neuropod.cli.signing_in:profile",
    "completion": "neuropod.cli.completion:completion",
}

# What `operate` has; a test holds the two together. It is told here, so that one help names all commands.
MACHINE_COMMANDS = {
    "up": "Run Neuropod on this machine, in the foreground.",
    "down": "End the server and everything it runs on this machine.",
    "gateway": "Run a gateway alone, beside a server on the same data directory.",
    "doctor": "Tell what this machine can and cannot isolate, and what is wrong with the server.",
    "backup": "Write the database, and on request the key and the volumes, into one file.",
    "restore": "Put back what a backup holds.",
    "admin": "Sign-in links and people, for whoever owns this machine.",
}


class _Root(UserGroup):
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Commands of the machine that runs the server"):
            formatter.write_dl(list(MACHINE_COMMANDS.items()))
        with formatter.section("Examples"):
            for example in ("pod create lab --template jupyterlab --wait", "pod open lab 8888", "pod --help"):
                formatter.write(f"{'':>{formatter.current_indent}}{ctx.info_name} {example}\n")


@click.group("neuropod", cls=_Root, modules=_MODULES, context_settings=ROOT_SETTINGS)
@click.version_option(__version__, prog_name="neuropod")
def root() -> None:
    """Pods with a GPU, an address per port, and Jupyter that opens signed in."""


def main() -> None:
    """Run the command of the argument list and end the process."""
    call = UserCall(standard_screen(), program_name(), environ=os.environ)
    sys.exit(run(root, call, sys.argv[1:], advice=ADVICE))
