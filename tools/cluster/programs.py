"""The cluster's programs, built from Go modules with the machine's Go, into a cache keyed by what they are built from.

Each set has a folder under programs/ with a go.mod (which pins the versions) and a go.sum. `program` is called by
whoever starts one; a first build of everything takes minutes, and `nice` leaves the machine usable meanwhile.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .places import CACHE, HERE

KUBERNETES = "v1.36.3"
_GO = "/usr/local/go/bin/go"  # where https://go.dev/doc/install puts it, which not every job's PATH names
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_VERSION = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": "36", "gitTreeState": "clean"}


@dataclass(frozen=True)
class ProgramSet:
    """Programs that share a go.mod. `programs` maps the name to its package; `stamps` are -X flags of the linker."""

    name: str
    version: str
    programs: dict[str, str]
    stamps: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> Path:
        return HERE / "programs" / self.name

    @property
    def linker_flags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])

    @property
    def built(self) -> Path:
        digest = hashlib.sha256(self.linker_flags.encode())
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            digest.update(path.read_bytes())
        return CACHE / "programs" / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"


SETS = (
    ProgramSet(
        "kubernetes",
        KUBERNETES,
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kubectl",
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            )
        },
        tuple(f"{package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in _VERSION.items()),
    ),
    ProgramSet("etcd", "v3.6.16", {"etcd": "go.etcd.io/etcd/server/v3"}),
    ProgramSet("kube-router", "v2.1.0", {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"}),
    ProgramSet("coredns", "v1.15.0", {"coredns": "github.com/coredns/coredns"}),
    ProgramSet("pods", "1", {"pause": "./pause", "http": "./http"}),
)


def program(name: str) -> Path:
    """Return the built program of that name; KeyError for a name that no set has."""
    for programs in SETS:
        if name in programs.programs:
            return programs.built / name
    raise KeyError(name)


def build_all() -> None:
    """Build what is not in the cache yet; may be repeated, and by several at once only under the cache's lock."""
    for programs in SETS:
        if not programs.built.exists():
            _build(programs)


def _build(programs: ProgramSet) -> None:
    print(f"building {programs.name} {programs.version}: {', '.join(programs.programs)}", flush=True)
    unfinished = programs.built.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    go = shutil.which("go") or _GO
    flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    environment = {"HOME": str(Path.home()), **os.environ, **flags}
    for name, package in programs.programs.items():
        command = [go, "build", "-trimpath", "-ldflags", programs.linker_flags, "-o", str(unfinished / name), package]
        subprocess.run(["nice", "-n", "10", *command], cwd=programs.folder, env=environment, check=True)
    unfinished.rename(programs.built)
