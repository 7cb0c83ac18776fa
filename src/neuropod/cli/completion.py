"""`neuropod completion`: the lines that let a shell complete commands, options and the names of pods."""

import click
from click.shell_completion import get_completion_class

from neuropod.cli.commands import UserCall
from neuropod.kit.terminal.commands import COMPLETE_VARIABLE, PROGRAM, Command, Group
from neuropod.kit.terminal.exits import CommandError


@click.command(
    "completion",
    cls=Command,
    examples=[
        'eval "$(neuropod completion bash)"     # in ~/.bashrc',
        'eval "$(neuropod completion zsh)"      # in ~/.zshrc',
        "neuropod completion fish > ~/.config/fish/completions/neuropod.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion(call: UserCall, shell: str) -> None:
    """Print what a shell needs to complete `neuropod` commands. The program has to be on your PATH by that name."""
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"there is no completion for {shell}")
    try:
        script = kind(Group(PROGRAM), {}, PROGRAM, COMPLETE_VARIABLE).source()
    except RuntimeError as error:  # click found a bash that is too old
        raise CommandError(str(error)) from error
    if call.screen.json:
        call.screen.data({"shell": shell, "script": script})
    else:
        call.screen.say(script)
