"""The images that pods of the tests run: made from programs and Debian's packages, kept by a hash of their recipe.

Each is a docker-archive in the cache. `filled_store` gives a folder of containerd's with all of them unpacked, which a
node copies with hard links (`copy_store`), so that a node starts with its images in about a second.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .places import CACHE, CHECKOUT
from .processes import run, wait_until
from .programs import program

_STARTER = CHECKOUT / "src/neuropod/templates/starters/jupyterlab.toml"
_LIBRARIES = Path("/lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class Image:
    """`fill` writes the root file system into an empty folder.

    `recipe` is what it depends on, for the cache's key: it changes when `fill` packs something else.
    """

    name: str
    recipe: str
    fill: Callable[[Path], None]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return f"neuropod.test/{self.name}:1"

    @property
    def key(self) -> str:
        text = json.dumps([self.reference, self.recipe, self.config], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def archive(self) -> Path:
        return CACHE / "images" / f"{self.name}-{self.key}.tar"


def all_images() -> list[Image]:
    """Programs are built and Debian's packages installed before it is asked."""
    return [
        Image("pause", str(program("pause")), _program_alone("pause"), {"Entrypoint": ["/pause"]}),
        Image("http", str(program("http")), _program_alone("http"), {"Entrypoint": ["/http"]}),
        Image("coredns", str(program("coredns")), _program_alone("coredns"), {"Entrypoint": ["/coredns"]}),
        Image("busybox", "dynamic", _fill_busybox, {"Cmd": ["sh"]}),
        Image(
            "jupyterlab",
            json.dumps(["bookworm with python3", *_starter_packages()]),
            _fill_jupyterlab,
            {"Cmd": ["jupyter-lab", "--ip=0.0.0.0", "--allow-root", "--no-browser"], "WorkingDir": "/root"},
        ),
    ]


def build_all() -> None:
    """Pack what is not in the cache yet; may be repeated."""
    for image in all_images():
        if image.archive.exists():
            continue
        print(f"packing the image {image.reference}", flush=True)
        image.archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=image.archive.parent) as folder:
            unfinished = Path(folder) / "archive.tar"
            pack(image, unfinished)
            unfinished.rename(image.archive)


def pack(image: Image, archive: Path) -> None:
    """Fill it and write the format of `docker save` (a manifest, a config, here one layer) into an empty folder."""
    root, layer = archive.with_name("root"), archive.with_name("layer.tar")
    root.mkdir()
    image.fill(root)
    run("tar", "--numeric-owner", "-C", root, "-cf", layer, ".")
    with layer.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    environment = ["PATH=/opt/jupyter/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": environment, **image.config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "tools/cluster/images.py"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [image.reference], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for name, value in (("manifest.json", manifest), ("config.json", config)):
            content = json.dumps(value).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        tar.add(layer, "layer.tar")


def _program_alone(name: str) -> Callable[[Path], None]:
    def fill(root: Path) -> None:
        shutil.copy(program(name), root / name)

    return fill


def _fill_busybox(root: Path) -> None:
    """Debian's dynamic one, as it looks names up like any program of a real image (its wget crashes with -T)."""
    for folder in ("bin", "etc", "root", "tmp", "home", "lib64"):
        (root / folder).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnobody:x:65534:\n")
    with tempfile.TemporaryDirectory() as folder:
        run("sh", "-c", f"cd {folder} && apt-get -q download busybox && dpkg-deb -x busybox_*.deb unpacked")
        shutil.copy(Path(folder) / "unpacked/bin/busybox", root / "bin/busybox")
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    for library in ("libc.so.6", "libresolv.so.2"):
        found = _LIBRARIES / library
        (root / found.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, root / found.relative_to("/"))
    for name in run("chroot", root, "/bin/busybox", "--list").split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")


def _starter_packages() -> list[str]:
    """Read the locked packages of the product's own starter, so that tests meet the JupyterLab that users meet."""
    packages: list[str] = tomllib.loads(_STARTER.read_text())["recipe"]["packages"]
    return packages


def _fill_jupyterlab(root: Path) -> None:
    wanted = "python3,python3-venv,ca-certificates,procps"
    run("debootstrap", "--variant=minbase", f"--include={wanted}", "bookworm", root)
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / waste, ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    # A relocatable venv names its interpreter by /usr/bin/python3, which is the same Python in the image.
    uv = os.environ.get("UV") or CHECKOUT / ".tools/bin/uv"
    venv = root / "opt/jupyter"
    run(uv, "venv", "--quiet", "--relocatable", "--python", "/usr/bin/python3", venv)
    run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--no-build",
        "--no-deps",
        "--python",
        venv / "bin/python",
        *_starter_packages(),
    )


def filled_store() -> Path:
    """Return a folder of containerd's with every image imported and unpacked."""
    images = all_images()
    key = hashlib.sha256("".join(image.key for image in images).encode()).hexdigest()[:12]
    store = CACHE / "stores" / key
    if store.exists():
        return store
    print(f"unpacking {len(images)} images", flush=True)
    unfinished = store.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as state:
        config, socket = Path(state) / "config.toml", Path(state) / "containerd.sock"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        places = ["--config", config, "--root", unfinished, "--state", Path(state) / "state", "--address", socket]
        # Its mounts are its own, and it ends with the process that is killed.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "containerd", *map(str, places)]
        with (CACHE / "stores" / f"{key}.log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until("containerd's socket", socket.exists, seconds=30)
            for image in images:
                run("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", image.archive)
        finally:
            daemon.kill()  # unshare ignores SIGTERM; containerd's databases are safe at any moment
            daemon.wait()
    unfinished.rename(store)
    return store


def copy_store(target: Path) -> None:
    """Copy the store by hard links: layers are never written to. The databases are, and so are real copies."""
    run("cp", "-al", filled_store(), target)
    for database in list(target.rglob("*.db")):
        if "snapshots" not in database.relative_to(target).parts:
            content = database.read_bytes()
            database.unlink()
            database.write_bytes(content)
