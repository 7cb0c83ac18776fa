"""The runtime contract: what a runtime is asked (workloads, verbs) and what it answers (Seen).

Called by reconcile (verbs, observe, list_seen, watch), by the gateway (connect) and by the API (logs). A runtime knows
no database and no pods: the caller names things, deterministically, and every name carries the pod's id and the
incarnation's number, so that a stale caller is harmless. What only some runtimes can do has a module each beside this
one: `execution`, `usage`, `volumes`.

The rules, held by the one conformance suite in tests/runtimes for every runtime:

1. Every verb may be repeated; the second call changes nothing.
2. No verb waits for an end state: it starts something and returns. Time-outs of verbs stay under half a lease.
3. `observe` answers from the outside world, never from memory of what was asked; None is answered only after a live
   look. What cannot be looked at raises RuntimeUnavailable.
4. A verb for an incarnation never touches another one of the same pod. Deletes carry the object's own identity
   (boot id + start time, or a UID), so a verb that arrives late hits nothing.
5. `ensure` while another incarnation of the pod still stands is WorkloadRejected with the reason place_occupied.
6. Everything a runtime makes carries the installation's id; it never lists, adopts or removes what carries another.
7. Exit code, times and log can be read from `exited` on until `remove`, and the log also after it (`logs`).
8. Secrets (`Workload.env`) reach the workload and nothing else: no argument lists, no files others can read, no logs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from neuropod.ids import InstallationId, PodId, RuntimeId, UserId, VolumeId
from neuropod.kit.secrets import Secret
from neuropod.words import ReadyWhen, Reason


class RuntimeUnavailableError(Exception):
    """The runtime, or the way to it, does not answer now; nothing is known about the workload. Try again later."""


class WorkloadRejectedError(Exception):
    """This workload can never run here as it is; `reason` and the sentence say why. No retry."""

    def __init__(self, message: str, *, reason: Reason = Reason.REJECTED) -> None:
        super().__init__(message)
        self.reason = reason


class NotSupportedError(Exception):
    """This runtime does not have the ability that was asked for."""


class NotReadyError(Exception):
    """Nothing can be connected to at that port now: not running, not listening, or not this incarnation."""


class Capability(StrEnum):
    """What a runtime can do beyond the contract; declared, never guessed with isinstance."""

    IMAGES = "images"  # runs any container image
    RECIPES = "recipes"  # runs a template's local recipe
    TENANT_ISOLATION = "tenant_isolation"  # strangers' pods are kept apart; without it only administrators launch
    EXEC = "exec"  # runs further commands in a workload: it is an `execution.Exec`
    USAGE = "usage"  # tells what workloads use now: it is a `usage.UsageReader`
    GPU_RESOURCES = "gpu_resources"  # finds GPUs by resource names and labels of machines; else by their models
    VOLUMES = "volumes"  # tells of volumes, grows and removes them: it is a `volumes.Volumes`


class Phase(StrEnum):
    """Where a workload stands."""

    PENDING = "pending"  # asked for, being prepared, or its process runs and is not ready
    READY = "ready"
    STOPPING = "stopping"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, order=True)
class WorkloadId:
    """Names one incarnation of one pod of one installation. `str()` of it is safe in paths and label values."""

    installation: InstallationId
    pod: PodId
    incarnation: int

    def __str__(self) -> str:
        return f"{self.pod}.{self.incarnation}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to run a template without a container engine: exact packages and a command."""

    packages: tuple[str, ...]  # `name==version` or `name[extra]==version`, nothing else (SECURITY 2)
    command: tuple[str, ...]  # argv, found on the pod's PATH; no shell
    shared_cache: bool = False  # an administrator wrote it, so its built environment may serve all users
    author: UserId | None = None  # whose cache it is otherwise


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A persistent disk of the user, mounted in the workload; made at first use, never removed with it.

    `made`: it was made once; a runtime that does not find it then makes no empty one in its stead (`volume_lost`).
    """

    id: VolumeId
    name: str
    size_bytes: int
    path: str = "/workspace"
    made: bool = False


@dataclass(frozen=True, slots=True)
class Readiness:
    """When the workload counts as ready; `port` is for `ReadyWhen.PORT` alone, any HTTP answer below 500 counts."""

    when: ReadyWhen
    port: int | None = None
    http: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """What the workload gets, as limits. `devices` are the runtime's own names of the GPUs allocated to it.

    All of them are in one machine; a runtime of several machines runs the workload on that one.
    """

    cpu_cores: int
    memory_bytes: int
    container_disk_bytes: int
    devices: tuple[str, ...] = ()
    gpu_resource: str = ""  # what a cluster calls such GPUs (`nvidia.com/gpu`), one for each of `devices`
    node_selector: Mapping[str, str] = field(default_factory=dict)  # labels of machines that may run it, on a cluster


@dataclass(frozen=True, slots=True)
class RegistryCredential:
    """What its owner gave for the registry of the workload's image."""

    host: str  # with its port: `ghcr.io`, `registry.lab:5000`; `docker.io` for images without a host
    username: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Workload:
    """What a runtime is asked to run for one incarnation; complete, so that `ensure` needs nothing else."""

    id: WorkloadId
    pod_name: str  # the owner's name for it; the host name inside
    owner: UserId
    owner_hash: str  # 8 characters, unique in the installation
    image: str | None
    recipe: Recipe | None
    command: tuple[str, ...] | None  # replaces the image's or the recipe's own
    env: Mapping[str, Secret]
    resources: Resources
    volume: VolumeMount | None
    ports: tuple[int, ...]
    readiness: Readiness
    stop_grace_seconds: int = 30
    pull_credential: RegistryCredential | None = None
    # The image is asked for anew at each start, though a machine may have it: somebody keeps a credential for its
    # registry, and what they pulled serves nobody without the right (SECURITY 15).
    always_pull: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod's workloads are made, as `Workload` has it: whoever names things by these finds what is there."""

    owner_hash: str
    pod_name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a preparation is: `done` of `total` in `unit` (`packages`, `bytes`); total None while unknown."""

    step: str
    done: int = 0
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a runtime answered about the workload that stands in a pod's place.

    `id.incarnation` is that of what is there, which may be another than the one asked for. `identity` is the object's
    own (boot id and start time; UID): two Seen with different identities are different objects.
    """

    id: WorkloadId
    identity: str
    phase: Phase
    reason: Reason
    message: str = ""
    progress: Progress | None = None
    address: str | None = None
    exit_code: int | None = None  # 128 + n for a signal n, as shells tell it
    started_at: datetime | None = None  # its process runs
    ready_at: datetime | None = None
    stopping_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that is allocated whole, to one workload at a time."""

    name: str  # the runtime's own, stable over reboots (`GPU-<uuid>`)
    model: str
    memory_bytes: int = 0
    trouble: str = ""  # what is wrong with it, as a clause; such a one is given to nobody
    host: str = ""  # which of the runtime's machines it is in, where there are several
    resource: str = ""  # what a cluster calls it (`nvidia.com/gpu`); empty: it is known by its model
    labels: Mapping[str, str] = field(default_factory=dict)  # of its machine, on a cluster


@dataclass(frozen=True, slots=True)
class Amounts:
    """An amount of what is not counted in devices."""

    cpu_cores: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class HostRoom:
    """What one of a runtime's machines has for pods."""

    whole: Amounts  # in all, less what others take
    free: Amounts  # of it what no workload of ours takes now


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be promised in all: the caller subtracts its allocations.

    What others than this installation take of a cluster is taken off already: its devices are left out, its amounts
    less. A device keeps its name while its machine is there, whoever runs on it.
    """

    cpu_cores: int
    memory_bytes: int
    disk_bytes: int
    devices: tuple[Device, ...] = ()
    volumes_apart: bool = False  # volumes take nothing of `disk_bytes`: they are kept elsewhere
    # Volumes that can be mounted on some of the machines alone now, and on which: where a workload has it that no other
    # machine can share (ReadWriteOnce), or where its data can be reached. By name, as `Device.host`; empty: on none.
    volume_hosts: Mapping[VolumeId, frozenset[str]] = field(default_factory=dict)
    # Where the amounts above are the sum of several machines: each one's, since a workload runs on one. By name, as
    # `Device.host`; empty where there is one machine alone.
    hosts: Mapping[str, HostRoom] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output, without its newline; `position` orders lines and resumes a follower."""

    position: int  # bytes of log written before this line since the incarnation's start
    text: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: after `since` (a position), the last `tail` of them, and then, with `follow`, what comes."""

    follow: bool = False
    tail: int | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One row of what a machine isolates: the guarantee's name, whether it holds, and the sentence that says why."""

    name: str
    holds: bool
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a runtime says of itself at start and in `neuropod doctor`."""

    mode: str
    guarantees: tuple[Guarantee, ...] = ()
    notes: tuple[str, ...] = field(default=())


class RuntimeReader(Protocol):
    """The half that only looks."""

    @property
    def id(self) -> RuntimeId:
        """Its id, which names its world."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond the contract."""
        ...

    async def observe(self, workload_id: WorkloadId) -> Seen | None:
        """Look for what stands in the pod's place: that incarnation if it is there, else another of the same pod.

        Number 0 asks for a pod of which none was opened.
        Raises RuntimeUnavailableError.
        """
        ...

    async def list_seen(self) -> Sequence[Seen]:
        """List every workload of this installation, one bulk look. Raises RuntimeUnavailableError."""
        ...

    def logs(self, workload_id: WorkloadId, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield the incarnation's output; ends when it was read, or with `follow` when the workload has ended.

        A follower loses no line while it keeps within the runtime's buffer (8 MiB or more); where it did not, the next
        line says how much is missing. Memory stays bounded. Nothing known of the incarnation yields nothing.
        Raises RuntimeUnavailableError where not all that there is can be read, also after some of it.
        """
        ...

    async def capacity(self) -> Capacity:
        """Tell what can be promised in all."""
        ...

    def watch(self) -> AsyncIterator[PodId]:
        """Yield a pod's id whenever something about it may have changed: a nudge, which may be lost or doubled."""
        ...

    async def report(self) -> Report:
        """Tell what this machine or cluster can isolate."""
        ...


class Runtime(RuntimeReader, Protocol):
    """A runtime as the reconciler and the gateway use it."""

    async def open(self) -> None:
        """Verify the world that `id` names and take it up; called once before anything else.

        Raises RuntimeUnavailableError when it is not there: the server then serves without this runtime.
        """
        ...

    async def aclose(self) -> None:
        """Let go. Workloads run on."""
        ...

    async def ensure(self, workload: Workload) -> None:
        """Let the workload exist; when it does (even ended), change nothing.

        Raises RuntimeUnavailableError, WorkloadRejectedError.
        """
        ...

    async def stop(self, workload_id: WorkloadId, *, grace_seconds: int, reason: Reason) -> None:
        """Ask it to end (SIGTERM); after the grace the caller comes with `kill`. A pending one ends at once.

        `reason` comes back in the Seen that tells the end. Raises RuntimeUnavailableError.
        """
        ...

    async def kill(self, workload_id: WorkloadId, *, reason: Reason) -> None:
        """End all its processes now. Raises RuntimeUnavailableError."""
        ...

    async def remove(self, workload_id: WorkloadId, place: Place | None = None) -> None:
        """Take away what is left of an ended incarnation but its log; volumes stay. One that runs is left alone.

        `place` is given where none is seen: then what an `ensure` that was cut off left beside it goes too. Raises
        RuntimeUnavailableError.
        """
        ...

    async def forget(self, workload_id: WorkloadId) -> None:
        """Drop the kept logs too: the pod is deleted for good (the incarnation's number is not looked at)."""
        ...

    async def connect(self, workload_id: WorkloadId, port: int) -> "Connection":
        """Open a byte stream to a port of that very incarnation, the only way to a port.

        Raises NotReadyError at once when nothing listens; RuntimeUnavailableError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected byte stream whose transport the caller now owns and closes.

    `attach` puts a protocol on it; where the runtime has a plain socket (`local`, `fake`) nothing is copied in between.
    """

    attach: "Attach"


class Attach(Protocol):
    """Start `protocol` on the stream; call once."""

    async def __call__(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Return the transport, after `connection_made` was called with it."""
        ...
