"""The types of identifiers, so that a pod's id is never passed where a user's belongs."""

from typing import NewType

InstallationId = NewType("InstallationId", str)
UserId = NewType("UserId", str)
SessionId = NewType("SessionId", str)
ApiKeyId = NewType("ApiKeyId", str)
PodId = NewType("PodId", str)
IncarnationId = NewType("IncarnationId", str)
TemplateId = NewType("TemplateId", str)
VolumeId = NewType("VolumeId", str)
RuntimeId = NewType("RuntimeId", str)  # names its world: `local:<machine id>`, `kubernetes:<uid of kube-system>`
GpuTypeName = NewType("GpuTypeName", str)  # the catalogue's own key: `rtx-4090`, `cpu`
EventId = NewType("EventId", int)
