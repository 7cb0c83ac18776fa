"""What JupyterHub runs on: an environment of its own, made once by uv and kept outside of the checkout, and its proxy.

It is no dependency of ours. The measurement runs within the cluster's network, which has no internet: what is missing
is fetched in the network that the cluster was entered from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.gateway import HERE, install_chp

CACHE = Path(os.environ.get("NEUROPOD_BENCH_CACHE") or Path.home() / ".cache" / "neuropod-bench")
REQUIREMENTS = HERE / "hub" / "requirements.txt"


def installed() -> Path:
    """Return the Python of JupyterHub's environment; it and the proxy are installed if they are not there yet."""
    before = _outside()
    install_chp(before)
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    environment = CACHE / f"jupyterhub-{key}"
    if not environment.exists():
        unfinished = environment.with_name(f"{environment.name}.{os.getpid()}")  # another run may make it meanwhile
        try:
            _make(unfinished, before)
            unfinished.rename(environment)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return environment / "bin" / "python"


def _make(folder: Path, before: list[str]) -> None:
    print(f"installing JupyterHub into {CACHE}", flush=True)
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, folder], check=True)
    packages = ["--no-build", "--no-deps", "--python", python, "--requirements", REQUIREMENTS]
    subprocess.run([*before, uv, "pip", "install", "--quiet", *packages], check=True)


def _outside() -> list[str]:
    """Return the words that run a program in the network that this one was entered from; none if it was not entered."""
    ours, process = _network("self"), os.getppid()
    while process > 1:
        try:
            if _network(process) != ours:
                return ["nsenter", f"--net=/proc/{process}/ns/net", "--"]
        except PermissionError:  # of somebody else, as whoever began us may be
            break
        process = _parent(process)
    return []


def _network(process: int | str) -> str:
    return str(Path(f"/proc/{process}/ns/net").readlink())


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
