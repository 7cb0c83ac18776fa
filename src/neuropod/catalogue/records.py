"""The rows of the catalogue."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from neuropod.db.record import Record
from neuropod.kit.money import Micros


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
    model_pattern: Mapped[str]  # how the local runtime finds its devices: matched against a device's model
