"""Registries of images on the control plane's address: an open one, one with a password, and one that is slow.

`registry` (5000) and `registry-private` (5001) serve one store; `registry-slow` (5002) is the open one at 2 MB/s.
`fill` puts images of images.py in: `172.31.77.1:5000/busybox:1`. The supervisor starts and fills them on order.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from .images import Image, all_images, pack
from .places import CONTROL, REGISTRY_PORT, Cluster
from .processes import run
from .programs import program

OPEN, PRIVATE, SLOW = (f"{CONTROL}:{REGISTRY_PORT + number}" for number in range(3))
NAMES = ("registry", "registry-private", "registry-slow")
USER, PASSWORD = "puller", "correct-horse"  # of a registry that lives as long as the cluster
_BYTES_PER_SECOND = 2_000_000


def command(cluster: Cluster, name: str) -> list[str]:
    port = REGISTRY_PORT + NAMES.index(name)
    if name == "registry-slow":
        return [sys.executable, "-m", "cluster.registry", str(port), str(REGISTRY_PORT)]
    folder = cluster.folder / "registry"
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"{CONTROL}:{port}"},
    }
    if name == "registry-private":
        passwords = folder / "passwords"
        passwords.write_text(run("htpasswd", "-Bbn", USER, PASSWORD))
        config["auth"] = {"htpasswd": {"realm": "private", "path": str(passwords)}}
    path = folder / f"{name}.yml"
    path.write_text(json.dumps(config))
    return ["docker-registry", "serve", str(path)]


def answers() -> bool:
    """Whether all of them do."""
    try:
        for number in range(len(NAMES)):
            socket.create_connection((CONTROL, REGISTRY_PORT + number), timeout=1).close()
    except OSError:
        return False
    return True


def fill(*names: str) -> None:
    """Push these images of images.py; may be repeated."""
    for image in all_images():
        if image.name in names:
            _push(image.archive, image.name)


def push_new(name: str, megabytes: int) -> None:
    """Push an image of one program and so many MB of noise: it is pulled whole, though nodes know its program."""

    def fill_root(root: Path) -> None:
        shutil.copy(program("http"), root / "http")
        (root / "noise").write_bytes(os.urandom(megabytes * 1_000_000))

    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive.tar"
        pack(Image(name, "", fill_root, {"Entrypoint": ["/http"]}), archive)
        _push(archive, name)


def _push(archive: Path, name: str) -> None:
    options = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    run("skopeo", *options, f"docker-archive:{archive}", f"docker://{OPEN}/{name}:1")


def _pass_on(source: socket.socket, target: socket.socket, bytes_per_second: float | None) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
            if bytes_per_second:
                time.sleep(len(data) / bytes_per_second)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def _serve_slowly(port: int, behind: int) -> None:
    server = socket.create_server((CONTROL, port))
    while True:
        client, _ = server.accept()
        upstream = socket.create_connection((CONTROL, behind))
        threading.Thread(target=_pass_on, args=(client, upstream, None), daemon=True).start()
        threading.Thread(target=_pass_on, args=(upstream, client, _BYTES_PER_SECOND), daemon=True).start()


if __name__ == "__main__":
    _serve_slowly(int(sys.argv[1]), int(sys.argv[2]))
