"""What a launch and an edit ask for. Made by api from the wire, read by service; the rules are in `rules`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from neuropod.kit.secrets import Secret
from neuropod.words import Access, JupyterMode


class Unset(Enum):
    """A field that was not sent, where null means something else."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
NotSent = Literal[Unset.UNSET]


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A port to expose; what is None comes from the template or the defaults."""

    port: int
    name: str | None = None
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """Which of the owner's volumes to attach; `size_gb` None: as it is, or the template's when it is made now."""

    name: str = "workspace"
    size_gb: int | None = None


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A pod to launch, from a template (its name or id) or from any image."""

    name: str
    owner: str | None = None  # the address of a client, for administrators; None: the actor's own
    template: str | None = None
    image: str | None = None
    command: tuple[str, ...] | None = None
    gpu_type: str | None = None
    gpu_count: int = 1
    container_disk_gb: int | None = None
    volume: VolumeRequest | NotSent | None = UNSET
    ports: tuple[PortRequest, ...] | None = None
    env: Mapping[str, Secret] = field(default_factory=dict)
    env_secrets: Mapping[str, str] = field(default_factory=dict)  # variable → name of a secret of the owner's
    jupyter: JupyterMode | None = None
    stop_after_seconds: int | NotSent | None = UNSET  # None: never
    idle_stop_after_seconds: int | NotSent | None = UNSET


@dataclass(frozen=True, slots=True)
class EditRequest:
    """Changes to a pod; what is UNSET stays. All but limits of time need a new incarnation of a running pod."""

    image: str | NotSent = UNSET
    command: tuple[str, ...] | NotSent | None = UNSET
    gpu_type: str | NotSent = UNSET
    gpu_count: int | NotSent = UNSET
    container_disk_gb: int | NotSent = UNSET
    volume: VolumeRequest | NotSent | None = UNSET
    env: Mapping[str, Secret] | NotSent = UNSET
    env_secrets: Mapping[str, str] = field(default_factory=dict)  # read with `env`, which replaces all
    jupyter: JupyterMode | NotSent = UNSET
    stop_after_seconds: int | NotSent | None = UNSET
    idle_stop_after_seconds: int | NotSent | None = UNSET
    restart: bool = False
