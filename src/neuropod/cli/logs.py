"""`neuropod pod logs`: what a pod prints.

Pods print what they like, so control characters and terminal escapes are taken out of every line (SECURITY 33); what
is piped to a file can be had as it is with `--raw`.
"""

import codecs
from collections.abc import Iterable, Iterator

import click

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import complete_pod, pods_of
from neuropod.client.pods import Pods
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.wire.logs import LogLine
from neuropod.wire.pods import Pod

_LONGEST = 1 << 20  # a line without an end is shown in parts of that length


@click.command(
    "logs",
    cls=UserCommand,
    examples=[
        "neuropod pod logs -f lab",
        "neuropod pod logs lab --tail 100",
        "neuropod pod logs lab --previous",
        "neuropod pod logs lab --raw > lab.log",
    ],
)
@click.argument("name", shell_complete=complete_pod)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the run ends.")
@click.option("--tail", "-n", type=click.IntRange(0), metavar="N", help="Begin with the last N lines.")
@click.option("--previous", is_flag=True, help="The run before the newest.")
@click.option("--run", "number", type=click.IntRange(1), metavar="NUMBER", help="That run; `pod events` names them.")
@click.option("--raw", is_flag=True, help="As the pod wrote it, escapes too; not on a terminal.")
@click.pass_obj
def logs(
    call: UserCall, name: str, follow: bool, tail: int | None, previous: bool, number: int | None, raw: bool
) -> None:
    """Print what a pod printed. The logs of the last runs outlive them."""
    if raw and call.screen.is_terminal:
        raise click.UsageError("--raw is for pipes and files: a pod could write commands to your terminal")
    if previous and number is not None:
        raise click.UsageError("--previous and --run exclude each other")
    pods = pods_of(call)
    if previous:
        number = _previous(pods.show_pod(name))
    if follow:
        _follow(call, pods, name, tail=tail, number=number, raw=raw)
        return
    chunks = pods.read_logs(name, tail=tail, incarnation=number)
    if raw and not call.screen.json:
        for text in _decoded(chunks):
            call.screen.raw(text)
        return
    empty = True
    for line in _lines(chunks):
        empty = False
        if call.screen.json:
            call.screen.data_line({"text": line})
        else:
            call.screen.line(line)
    if empty and not call.screen.json:
        which = f"Run {number} of {name}" if number is not None else name
        call.screen.note(f"{which} has printed nothing. Wait for what comes: {call.program} pod logs -f {name}")


def _previous(pod: Pod) -> int:
    if pod.incarnation is None or pod.incarnation.number == 1:
        raise CommandError(
            f"{pod.name} has had no run before this one",
            exit_code=Exit.NOT_FOUND,
            hints=(f"the newest run's log: neuropod pod logs {pod.name}",),
        )
    return pod.incarnation.number - 1


def _follow(call: UserCall, pods: Pods, name: str, *, tail: int | None, number: int | None, raw: bool) -> None:
    screen = call.screen
    try:
        for one in pods.follow_logs(name, tail=tail, incarnation=number, renew_key=call.renew_key):
            if not isinstance(one, LogLine):
                if not screen.json:
                    screen.note(f"Run {one.incarnation} of {name} has ended.")
                return
            if screen.json:
                screen.data_line(one.model_dump(mode="json"))
            elif raw:
                screen.raw(one.text + "\n")
            else:
                screen.line(one.text)
            screen.flush()
    except KeyboardInterrupt:
        screen.flush()
        raise CommandError(f"not following any longer; {name} goes on", exit_code=Exit.INTERRUPTED) from None


def _decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines without their end; the log's own lines end in LF and may hold anything else."""
    rest = ""
    for text in _decoded(chunks):
        *done, rest = (rest + text).split("\n")
        yield from done
        if len(rest) > _LONGEST:
            yield rest
            rest = ""
    if rest:
        yield rest
