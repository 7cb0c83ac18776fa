"""The rows of the catalogue."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from neuropod.catalogue.devices import Finder
from neuropod.db.record import Record
from neuropod.kit.money import Micros
from neuropod.runtimes.contract import Capability


class GpuTypeRow(Record):
    """A type that a pod can be launched on. The one without GPU is `cpu`."""

    __tablename__ = "gpu_types"

    name: Mapped[str] = mapped_column(primary_key=True)  # `rtx-4090`, `cpu`
    title: Mapped[str]
    position: Mapped[int]  # order in lists
    enabled: Mapped[bool] = mapped_column(default=True)
    price_micros_per_hour: Mapped[Micros]
    cpu_cores: Mapped[int]
    memory_gb: Mapped[int]  # 10^9 bytes
    gpus: Mapped[int]  # per unit of the type; 0 for `cpu`
    deleted_at: Mapped[datetime | None] = mapped_column(default=None)  # the row stays, so that no starter comes back
    model_pattern: Mapped[str]  # how a machine's devices are found: matched against a device's model
    gpu_resource: Mapped[str] = mapped_column(default="", server_default="")  # how a cluster's are: their resource name
    node_selector: Mapped[dict[str, Any]] = mapped_column(
        default=dict, server_default="{}"
    )  # and labels of their nodes
    runtimes: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")  # names; empty: any that can

    @property
    def finder(self) -> Finder:
        """How its devices are found."""
        return Finder(self.model_pattern, self.gpu_resource, self.node_selector)

    def offered_on(self, runtime_name: str | None) -> bool:
        """Tell whether a runtime of that name may run pods of it."""
        return not self.runtimes or runtime_name in self.runtimes

    def found_by(self, capabilities: Collection[Capability]) -> bool:
        """Tell whether a runtime of these abilities could have devices of it, or it needs none."""
        return self.gpus == 0 or self.finder.works_with(capabilities)
