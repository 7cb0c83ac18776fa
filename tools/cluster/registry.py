"""Registries of images on the control plane's address: an open one, one with a password, and one that is slow.

`registry` (5000) and `registry-private` (5001) serve one store; `registry-slow` (5002) is the open one at 2 MB/s.
They are filled at the first start by `fill`: `<address>/busybox:1` and the others of images.py.
"""

import json
import socket
import sys
import threading
import time

from .images import all_images
from .places import CONTROL, REGISTRY_PORT, Cluster
from .processes import run

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


def fill(*names: str) -> None:
    """Push these images of images.py into the open registry (both have them then); may be repeated."""
    for image in all_images():
        if image.name in names:
            target = f"docker://{CONTROL}:{REGISTRY_PORT}/{image.name}:1"
            options = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
            run("skopeo", *options, f"docker-archive:{image.archive}", target)


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
