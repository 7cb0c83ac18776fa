"""What is looked at of Pods, Nodes, Events, claims and volumes, and nothing else of them: thousands cost little."""

from datetime import datetime

import msgspec

from neuropod.kube.shapes import Metadata, Shape


class Waiting(Shape, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Running(Shape, frozen=True):
    """Since when a container runs."""

    started_at: datetime | None = None


class Terminated(Shape, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Shape, frozen=True):
    """One of three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Shape, frozen=True):
    """A container as its node tells it."""

    name: str = ""
    state: ContainerState = ContainerState()


class Condition(Shape, frozen=True):
    """A condition of a Pod or a Node."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None
    last_heartbeat_time: datetime | None = None


class PodStatus(Shape, frozen=True):
    """A Pod as its node tells it."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Requirements(Shape, frozen=True):
    """What a container asks for; limits are not looked at."""

    requests: dict[str, str] = msgspec.field(default_factory=dict)


class Reference(Shape, frozen=True):
    """The name of an object beside it."""

    name: str = ""


class EnvSource(Shape, frozen=True):
    """Where variables of a container come from."""

    secret_ref: Reference | None = None


class Container(Shape, frozen=True):
    """A container as it was asked for."""

    image: str = ""
    resources: Requirements = Requirements()
    env_from: tuple[EnvSource, ...] = ()


class ClaimSource(Shape, frozen=True):
    """Which claim a volume of a Pod is."""

    claim_name: str = ""


class PodVolume(Shape, frozen=True):
    """A volume of a Pod."""

    persistent_volume_claim: ClaimSource | None = None


class PodSpec(Shape, frozen=True):
    """A Pod as it was asked for."""

    node_name: str = ""
    image_pull_secrets: tuple[Reference, ...] = ()
    containers: tuple[Container, ...] = ()
    volumes: tuple[PodVolume, ...] = ()


class PodMetadata(Metadata, frozen=True):
    """What a Pod says of itself."""

    deletion_grace_period_seconds: int | None = None


class PodShape(Shape, frozen=True):
    """A Pod."""

    metadata: PodMetadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def claim(self) -> str | None:
        """The claim of its volume."""
        sources = (volume.persistent_volume_claim for volume in self.spec.volumes)
        return next((source.claim_name for source in sources if source is not None), None)

    @property
    def secrets(self) -> list[str]:
        """The Secrets that it reads."""
        sources = [source.secret_ref for container in self.spec.containers for source in container.env_from]
        return [one.name for one in (*sources, *self.spec.image_pull_secrets) if one is not None]

    @property
    def condition(self) -> dict[str, Condition]:
        """Its conditions by type."""
        return {condition.type: condition for condition in self.status.conditions}


class Taint(Shape, frozen=True):
    """What keeps Pods from a node."""

    key: str = ""
    effect: str = ""


class NodeSpec(Shape, frozen=True):
    """A node as it was asked for."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")


class Address(Shape, frozen=True):
    """An address of a node."""

    type: str = ""
    address: str = ""


class HandlerFeatures(Shape, frozen=True):
    """What a node's container runtime can."""

    user_namespaces: bool = False


class RuntimeHandler(Shape, frozen=True):
    """A way in which a node runs containers; the usual one has no name."""

    name: str = ""
    features: HandlerFeatures = HandlerFeatures()


class NodeStatus(Shape, frozen=True):
    """A node as its kubelet tells it."""

    allocatable: dict[str, str] = msgspec.field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[Address, ...] = ()
    runtime_handlers: tuple[RuntimeHandler, ...] = ()

    @property
    def has_user_namespaces(self) -> bool:
        """Whether Pods can be given users of their own there."""
        return any(one.features.user_namespaces for one in self.runtime_handlers if not one.name)


class NodeShape(Shape, frozen=True):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> Condition | None:
        """Its condition `Ready`."""
        return next((one for one in self.status.conditions if one.type == "Ready"), None)


class Subject(Shape, frozen=True):
    """The object that an event is about."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class EventShape(Shape, frozen=True):
    """An event about a Pod or a claim."""

    metadata: Metadata
    involved_object: Subject = Subject()
    reason: str = ""
    message: str = ""
    type: str = ""
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """When it happened last."""
        return self.last_timestamp or self.event_time or self.first_timestamp


class ClaimResources(Shape, frozen=True):
    """What a claim asks for."""

    requests: dict[str, str] = msgspec.field(default_factory=dict)


class ClaimSpec(Shape, frozen=True):
    """A claim as it was asked for."""

    storage_class_name: str | None = None
    volume_name: str = ""
    resources: ClaimResources = ClaimResources()


class ClaimStatus(Shape, frozen=True):
    """A claim as it is."""

    phase: str = ""
    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()


class ClaimShape(Shape, frozen=True):
    """A PersistentVolumeClaim."""

    metadata: Metadata
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class StorageClassShape(Shape, frozen=True):
    """A StorageClass."""

    metadata: Metadata
    provisioner: str = ""
    reclaim_policy: str = "Delete"
    allow_volume_expansion: bool = False
    volume_binding_mode: str = "Immediate"


class NodeRequirement(Shape, frozen=True):
    """What is required of a label or a field of nodes."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class NodeTerm(Shape, frozen=True):
    """What is required of nodes together."""

    match_expressions: tuple[NodeRequirement, ...] = ()
    match_fields: tuple[NodeRequirement, ...] = ()


class NodeSelectorShape(Shape, frozen=True):
    """Which nodes are meant: those that fulfil one of the terms."""

    node_selector_terms: tuple[NodeTerm, ...] = ()


class VolumeNodeAffinity(Shape, frozen=True):
    """From which nodes a volume can be reached."""

    required: NodeSelectorShape | None = None


class PersistentVolumeSpec(Shape, frozen=True):
    """A volume as its storage has it."""

    node_affinity: VolumeNodeAffinity | None = None


class PersistentVolumeShape(Shape, frozen=True):
    """A PersistentVolume."""

    metadata: Metadata
    spec: PersistentVolumeSpec = PersistentVolumeSpec()
