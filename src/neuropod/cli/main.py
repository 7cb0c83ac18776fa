"""The entry of the user's commands. `neuropod.__main__` chooses between these and the machine's (`operate`)."""

import click

from neuropod import __version__
from neuropod.cli.context import Shared
from neuropod.cli.offers import gpu, template
from neuropod.cli.pods import pod
from neuropod.cli.ports import port
from neuropod.cli.signing_in import key, login, logout, whoami

_MACHINE = """
The machine's own commands, on the computer that runs the server:

  up        run Neuropod here
  down      end all workloads here
  gateway   run a gateway of its own
  doctor    tell what this machine can and cannot isolate
  admin     sign-in links, people

Each has --help. Exit codes: docs/reference/cli.md.
"""


@click.group("neuropod", epilog="\b\n" + _MACHINE.strip(), context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--profile", metavar="NAME", help="Which server of the profile file. Default: `default`.")
@click.version_option(__version__, prog_name="neuropod")
@click.pass_context
def main(context: click.Context, profile: str | None) -> None:
    """Pods with a GPU, an HTTPS address per port, and Jupyter signed in.

    \b
    Examples:
      neuropod pod create lab --template jupyterlab --wait
      neuropod pod open lab 8888
      neuropod pod ls
    """
    context.obj = Shared(profile)


for command in (pod, port, template, gpu, key, login, logout, whoami):
    main.add_command(command)
