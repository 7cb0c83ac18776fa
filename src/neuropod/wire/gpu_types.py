"""GPU types on offer."""

from neuropod.wire.shapes import Answer, Page, Price


class GpuType(Answer):
    """A type that a pod can be launched on. The one without GPU is `cpu`."""

    name: str
    title: str
    price: Price
    """Of one unit; a pod with `gpu_count` 2 costs twice that."""

    cpu_cores: int
    memory_gb: int
    gpus: int
    """GPUs per unit; 0 for `cpu`."""

    free: int
    """Units that could start now."""

    total: int
    """Units that the runtimes here have."""


class GpuTypePage(Page[GpuType]):
    """A part of the list of types."""
