"""The launcher: the first program inside a pod that knows anything of the pod (SECURITY 1).

Started by the sandbox after privileges were dropped, in the pod's own user, namespaces and filter, with an empty
environment; it runs on the machine's /usr/bin/python3 and is copied in as a file, so it imports nothing of ours. It
says hello on an inherited socket (the shim then knows its process number, attested by the kernel), gets command and
environment back, and becomes the command. The socket closes itself when that worked, else it carries the reason.
"""

import importlib.util
import json
import os
import signal
import socket
import sys
from pathlib import Path


def lay_out_venv(module: str, environment: str, venv: str) -> None:
    """Write the pod's own venv, by `environments.podvenv`, which was copied in as a file too."""
    spec = importlib.util.spec_from_file_location("podvenv", module)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(module)
    podvenv = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(podvenv)
    podvenv.lay_out_pod_venv(Path(environment), Path(venv))


def main() -> None:
    """Become the pod's command; exit 127 when it is not found and 126 when it cannot be run, as shells do."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    channel.sendall(b"hello\n")
    with channel.makefile("rb") as lines:
        order = json.loads(lines.readline())
    os.setsid()
    os.umask(0o022)
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, 65536)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    environment: dict[str, str] = order["env"]
    command: list[str] = order["command"]
    try:
        if order["venv"]:
            lay_out_venv(*order["venv"])
        os.chdir(order["cwd"])
        os.execvpe(command[0], command, environment)  # noqa: S606 - a list, and no shell is wanted
    except OSError as error:
        message = f"{command[0]}: {error.strerror}" if error.filename in (None, command[0]) else str(error)
        channel.sendall(json.dumps({"error": message}).encode() + b"\n")
        sys.stderr.write(f"neuropod: cannot start {message}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main()
