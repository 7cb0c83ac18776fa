"""The server as an image on a node of the throwaway cluster, made like its other images: Debian's Python, and the wheel.

It stands for what deploy/Containerfile makes, which needs a registry of base images. Its first layer is that of the
JupyterLab image, which the node has.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from support.cluster_orders import SOCKET
from support.servers import ROOT

REFERENCE = "neuropod.test/server:1"
NODE = "node-1"
_UV = ROOT / ".tools/bin/uv"


def _run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def import_image(folder: Path) -> None:
    """Make the image in an empty folder and put it on the node. Takes about half a minute."""
    root = folder / "root"
    venv = root / "opt/neuropod"
    _run(_UV, "venv", "--quiet", "--relocatable", "--python", "/usr/bin/python3", venv)
    # In the cluster's network is no package index; what the checkout was set up from is in uv's cache.
    sync = [_UV, "sync", "--offline", "--frozen", "--no-dev", "--no-editable", "--compile-bytecode"]
    sync += ["--reinstall-package", "neuropod"]  # the cache knows ours by its pyproject.toml alone
    _run("env", f"UV_PROJECT_ENVIRONMENT={venv}", *sync, "--python", "/usr/bin/python3")
    own = folder / "own.tar"
    _run("tar", "--owner=0", "--group=0", "--numeric-owner", "-C", root, "-cf", own, ".")
    archive = _archive(folder, own)
    cluster = Path(os.environ[SOCKET]).parent.name
    tool = [ROOT / "tools/cluster/cluster", "--name", cluster, "enter", "--node", NODE, "--all"]
    _run(*tool, "ctr", "--namespace", "k8s.io", "images", "import", archive)


def _archive(folder: Path, own: Path) -> Path:
    """Write the format of `docker save` with the layer of the JupyterLab image below ours."""
    base_archive = _base_archive()
    _run("tar", "-C", folder, "-xf", base_archive, "layer.tar")  # tarfile's own filter is not in Python 3.11.2
    with tarfile.open(base_archive) as base:
        stream = base.extractfile("config.json")
        assert stream is not None
        config: dict[str, Any] = json.load(stream)
    with own.open("rb") as content:
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}")
    config["history"].append({"created_by": "tests/support/server_image.py"})
    path = "PATH=/opt/neuropod/bin:/usr/local/bin:/usr/bin:/bin"
    config["config"] = {"Env": [path], "Entrypoint": ["neuropod"], "Cmd": ["up"], "User": "10001:10001"}
    (folder / "config.json").write_text(json.dumps(config))
    manifest = [{"Config": "config.json", "RepoTags": [REFERENCE], "Layers": ["layer.tar", own.name]}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    archive = folder / "archive.tar"
    with tarfile.open(archive, "w") as made:
        for name in ("manifest.json", "config.json", "layer.tar", own.name):
            made.add(folder / name, name)
    return archive


def _base_archive() -> Path:
    """Ask the cluster's own tool, which runs on Python's standard library."""
    program = (
        "from cluster.images import all_images; "
        "print(next(image.archive for image in all_images() if image.name == 'jupyterlab'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())
