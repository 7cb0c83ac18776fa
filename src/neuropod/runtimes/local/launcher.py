"""The launcher: the first program inside a pod that knows anything of the pod (SECURITY 1).

Started by the sandbox after privileges were dropped, in the pod's own user, namespaces and filter, with an empty
environment; it runs on the machine's /usr/bin/python3 and is copied in as a file, so it imports nothing of ours, and
as little as it can of Python's, since every launch waits for it. It says hello on an inherited socket (the kernel
attests its process number to the shim), gets its order back, and becomes the pod's command. The socket closes itself
when that worked, else it carries the reason.

The order is texts, each ended by a NUL, which no argument and no variable can hold: how many bytes follow (this one
alone is not counted), working directory, podvenv's path, environment, venv (three empty ones: no venv), the number of
words of the command, the words, then `NAME=value` for each variable.
"""

import _signal  # type: ignore[import-not-found]  # `signal` would cost each launch 3 ms for its enums
import os
import sys

HELLO = b"hello\n"
_KEPT = 3  # standard input, output, error


def encode_order(command: "tuple[str, ...]", env: "dict[str, str]", cwd: str, venv: "tuple[str, str, str]") -> bytes:
    """Return the order as `main` reads it; called by `spawn`."""
    texts = [cwd, *venv, str(len(command)), *command, *(f"{name}={value}" for name, value in env.items())]
    body = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)
    return str(len(body)).encode() + b"\0" + body


def read_order(channel: int) -> "list[bytes]":
    """Return the texts of the order."""
    data = b""
    while b"\0" not in data:
        data += _read(channel)
    head, _, body = data.partition(b"\0")
    while len(body) < int(head):
        body += _read(channel)
    return body.split(b"\0")[:-1]


def _read(channel: int) -> bytes:
    data = os.read(channel, 65536)
    if not data:
        os._exit(125)  # the shim is gone: so are we
    return data


def lay_out_venv(module: str, environment: str, venv: str) -> None:
    """Write the pod's own venv, by `environments.podvenv`, which was copied in as a file too."""
    names: dict[str, object] = {"__name__": "podvenv"}
    with open(module, "rb") as file:  # noqa: PTH123 - pathlib costs each launch 5 ms
        exec(compile(file.read(), module, "exec"), names)  # noqa: S102 - our own file, see above
    path = names["Path"]
    names["lay_out_pod_venv"](path(environment), path(venv))  # type: ignore[operator]


def main() -> None:
    """Become the pod's command; exit 127 when it is not found and 126 when it cannot be run, as shells do."""
    channel = int(sys.argv[1])
    os.set_inheritable(channel, False)
    os.write(channel, HELLO)
    texts = read_order(channel)
    cwd, module, environment, venv, count = (os.fsdecode(text) for text in texts[:5])
    command = [os.fsdecode(word) for word in texts[5 : 5 + int(count)]]
    variables = {name: value for name, _, value in (text.partition(b"=") for text in texts[5 + int(count) :])}
    if os.getsid(0) != os.getpid():  # one that came in later leads its session already (`entering`)
        os.setsid()
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and a command would inherit that
        _signal.signal(number, _signal.SIG_DFL)
    os.closerange(_KEPT, channel)
    os.closerange(channel + 1, 65536)
    try:
        if module:
            lay_out_venv(module, environment, venv)
        os.chdir(cwd)
    except OSError as error:
        fail(channel, 126, f"the pod cannot be set up: {error}")
    try:
        os.execvpe(command[0], command, variables)  # noqa: S606 - a list, and no shell is wanted
    except FileNotFoundError:
        fail(channel, 127, f"{command[0]}: command not found")
    except OSError as error:
        fail(channel, 126, f"{command[0]}: {error.strerror}")


def fail(channel: int, status: int, sentence: str) -> None:
    """Tell the shim and the pod's log why there is no command, and end."""
    os.write(channel, sentence.encode("utf-8", "replace"))
    os.write(2, f"neuropod: {sentence}\n".encode("utf-8", "replace"))
    os._exit(status)


if __name__ == "__main__":
    main()
