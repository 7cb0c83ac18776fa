"""The rows of pods: the wish and its schedule, the ports, the incarnations (facts), and what they take.

Who writes what (DESIGN §3): use-cases write the wish and set `due_at = now`; the loop alone writes facts, schedule and
`closed_at`. What is shown is made by `pods.status.status_of` and stored nowhere.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.leases import LeasedRecord
from neuropod.db.record import Record
from neuropod.kit.money import Micros
from neuropod.volumes.records import VolumeRow


class PodRow(LeasedRecord):
    """A pod: the owner's wish. A deleted one keeps its row (`want = gone`) until nothing is left (`closed_at`)."""

    __tablename__ = "pods"
    __table_args__ = (
        # A name is free again only when nothing of its last holder is left.
        Index(
            "uq_pods_owner_id_name_open",
            "owner_id",
            "name",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        # How many somebody has, asked at every launch: counted in the index alone.
        Index(
            "ix_pods_owner_id_want_open",
            "owner_id",
            "want",
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(
            "ix_pods_due_at_open",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index("ix_pods_runtime_id", "runtime_id"),
        # The queues: who waits on a runtime for a type, in order of request.
        Index(
            "ix_pods_waiting",
            "runtime_id",
            "gpu_type",
            "requested_at",
            sqlite_where=text("waiting_reason IS NOT NULL"),
            postgresql_where=text("waiting_reason IS NOT NULL"),
        ),
    )

    owner_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id))
    created_by: Mapped[str] = mapped_column(ForeignKey(UserRow.id))
    name: Mapped[str]
    runtime_id: Mapped[str]
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None] = mapped_column(default=None)

    want: Mapped[str]  # words.Want
    want_reason: Mapped[str]  # words.Reason: who or what changed the wish last
    want_at: Mapped[datetime]
    generation: Mapped[int] = mapped_column(default=1)  # +1 with every change; it only wakes
    run_revision: Mapped[int] = mapped_column(default=1)  # +1 with what needs a new incarnation
    requested_at: Mapped[datetime]  # when this run was asked for: the order in which pods wait for room

    waiting_reason: Mapped[str | None] = mapped_column(default=None)  # words.Reason; written by the loop alone
    waiting_since: Mapped[datetime | None] = mapped_column(default=None)

    template_id: Mapped[str | None]
    template: Mapped[dict[str, Any]]  # templates.snapshot.TemplateSnapshot as it was
    image: Mapped[str | None]
    command: Mapped[list[Any] | None]
    env_sealed: Mapped[bytes | None]  # a JSON object, sealed for `pods/<id>/env`
    env_secrets: Mapped[dict[str, Any] | None] = mapped_column(default=None)  # variable → name of the owner's secret
    gpu_type: Mapped[str]
    gpu_count: Mapped[int]
    cpu_cores: Mapped[int]  # of the type times `gpu_count`, as accepted at launch or start, like the two below
    memory_gb: Mapped[int]
    gpus: Mapped[int] = mapped_column(default=0)  # devices it takes
    container_disk_gb: Mapped[int]
    volume_id: Mapped[str | None] = mapped_column(ForeignKey(VolumeRow.id))
    price_micros_per_hour: Mapped[Micros]  # accepted at launch or start; copied to the incarnation at Open
    disk_micros_per_hour: Mapped[Micros] = mapped_column(default=Micros(0))  # of it: what the container disk costs
    stop_after_seconds: Mapped[int | None] = mapped_column(default=None)  # after an incarnation's process began to run
    idle_stop_after_seconds: Mapped[int | None] = mapped_column(default=None)
    jupyter: Mapped[str]  # words.JupyterMode
    jupyter_token_sealed: Mapped[bytes | None]  # the platform's, kept over stop and start; `pods/<id>/jupyter_token`


# What its workloads are made of, and no decision reads.
OF_WORKLOADS = frozenset({"template", "command", "env_sealed", "env_secrets", "jupyter_token_sealed"})


class PortRow(Record):
    """A port that the owner exposes. Its host is made from pod name, user hash and number, and never stored."""

    __tablename__ = "ports"
    __table_args__ = (UniqueConstraint("pod_id", "port"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    pod_id: Mapped[str] = mapped_column(ForeignKey(PodRow.id), index=True)
    port: Mapped[int]
    name: Mapped[str]
    access: Mapped[str]  # words.Access


class IncarnationRow(Record):
    """One run of a pod on its runtime: only facts, written by the loop alone.

    Open until `ended_at`; what is left of it is taken away afterwards (`removed_at`), and only then are its allocations
    free.
    """

    __tablename__ = "incarnations"
    __table_args__ = (UniqueConstraint("pod_id", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    pod_id: Mapped[str] = mapped_column(ForeignKey(PodRow.id))
    number: Mapped[int]  # 1, 2, 3 … of the pod
    run_revision: Mapped[int]  # the pod's, when it was opened
    crashes: Mapped[int] = mapped_column(default=0)  # crashes in a row before this one
    price_micros_per_hour: Mapped[Micros]
    opened_at: Mapped[datetime]

    phase: Mapped[str | None] = mapped_column(default=None)  # runtimes.contract.Phase, as last seen
    reason: Mapped[str]  # words.Reason
    message: Mapped[str] = mapped_column(default="")
    progress: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    identity: Mapped[str | None] = mapped_column(default=None)  # the runtime object's own
    address: Mapped[str | None] = mapped_column(default=None)
    exit_code: Mapped[int | None] = mapped_column(default=None)
    pending_seconds: Mapped[float] = mapped_column(default=0.0)  # counted toward the start deadline
    first_seen_at: Mapped[datetime | None] = mapped_column(default=None)
    last_seen_at: Mapped[datetime | None] = mapped_column(default=None)
    unavailable_since: Mapped[datetime | None] = mapped_column(default=None)  # the runtime gives no answer since
    started_at: Mapped[datetime | None] = mapped_column(default=None)  # its process runs
    ready_at: Mapped[datetime | None] = mapped_column(default=None)
    stop_sent_at: Mapped[datetime | None] = mapped_column(default=None)  # SIGTERM was asked for; grace counts from here
    stop_reason: Mapped[str | None] = mapped_column(default=None)  # words.Reason that was given with it
    ended_at: Mapped[datetime | None] = mapped_column(default=None)  # the runtime's finish time, or last seen if lost
    device_trouble: Mapped[str] = mapped_column(default="")  # what befell a GPU of its, as a clause
    removed_at: Mapped[datetime | None] = mapped_column(default=None)  # the runtime confirmed that nothing is left
    jupyter_token_sealed: Mapped[bytes | None] = mapped_column(default=None)  # read from this incarnation's log


class AllocationRow(Record):
    """What an incarnation takes of its runtime: one row per GPU, one for CPU, memory and container disk.

    Gone when it is given back: when the runtime confirmed that nothing of the incarnation is left.
    """

    __tablename__ = "allocations"
    __table_args__ = (UniqueConstraint("runtime_id", "device"), Index("ix_allocations_runtime_id", "runtime_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    incarnation_id: Mapped[str] = mapped_column(ForeignKey(IncarnationRow.id), index=True)
    runtime_id: Mapped[str]
    device: Mapped[str | None]  # None in the row for amounts; a device is given once, by the unique key
    gpu_type: Mapped[str | None] = mapped_column(default=None)  # as which type a device was given
    cpu_cores: Mapped[int] = mapped_column(default=0)
    memory_bytes: Mapped[int] = mapped_column(BigInteger(), default=0)
    disk_bytes: Mapped[int] = mapped_column(BigInteger(), default=0)
