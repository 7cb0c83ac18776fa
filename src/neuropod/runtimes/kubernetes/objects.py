"""What is made for a workload: its Pod, the Secrets that it reads, the claim of its volume. Pure.

Called by `runtime.ensure` and `volumes`. What a user's namespace holds besides is `tenancy`'s.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuropod.kit.secrets import Secret
from neuropod.kube.objects import Object, cpu_quantity
from neuropod.runtimes.contract import RegistryCredential, VolumeMount, Workload
from neuropod.runtimes.kubernetes import names
from neuropod.words import ReadyWhen

# What package managers in a pod need of root; what NET_RAW and the like would open is left out.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")

# What stands on the Pod itself anyway. A pod that has no other variables needs no Secret, which its node would have to
# ask for and watch before it starts it.
_NO_SECRETS = frozenset({"NEUROPOD_POD_ID", "NEUROPOD_POD_NAME"})

_VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Ways:
    """How this cluster runs pods: from its settings, and from what it can."""

    user_namespaces: bool = False
    runtime_class: str | None = None
    cpu_overcommit: float = 1.0
    disk_overcommit: float = 1.0
    fs_group: int | None = None
    shared_volumes: bool = False  # several machines can mount one (ReadWriteMany)


def ready_when(workload: Workload) -> str:
    """Return the annotation that says when the Pod is ready, for every server that sees it."""
    readiness = workload.readiness
    if readiness.when is ReadyWhen.PROCESS or readiness.port is None:
        return "process"
    return f"{'http' if readiness.http else 'tcp'}:{readiness.port}"


def pod(workload: Workload, ways: Ways, *, claim: str | None) -> Object:
    """Return the Pod. `claim` is the name of its volume's claim."""
    container = _container(workload, ways)
    spec: Object = {
        # A crash is ours to see, to show and to bill.
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The first process is not number 1 then: SIGTERM ends a program without a handler, a signal of its own too,
        # and what nobody waits for is waited for.
        "shareProcessNamespace": True,
        "hostname": workload.pod_name,
        "terminationGracePeriodSeconds": workload.stop_grace_seconds,
        "securityContext": _drop_none(
            {
                "seccompProfile": {"type": "RuntimeDefault"},
                "fsGroup": ways.fs_group,
                "fsGroupChangePolicy": None if ways.fs_group is None else "OnRootMismatch",
            }
        ),
        "containers": [container],
        "hostUsers": False if ways.user_namespaces else None,
        "runtimeClassName": ways.runtime_class,
        "nodeSelector": dict(workload.resources.node_selector) or None,
        "affinity": _affinity(workload),
    }
    if workload.volume is not None and claim is not None:
        spec["volumes"] = [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim}}]
        container["volumeMounts"] = [{"name": _VOLUME, "mountPath": workload.volume.path}]
    if workload.pull_credential is not None:
        spec["imagePullSecrets"] = [{"name": names.registry_secret_of(workload)}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.pod_of(workload),
            "namespace": names.namespace_of(workload.owner_hash),
            "labels": names.pod_labels(workload),
            "annotations": _drop_none(
                {
                    names.READY_WHEN: ready_when(workload),
                    names.DEVICES: ",".join(workload.resources.devices) or None,
                }
            ),
            "finalizers": [names.FINALIZER],
        },
        "spec": _drop_none(spec),
    }


def _container(workload: Workload, ways: Ways) -> Object:
    plain = {name: value.reveal() for name, value in workload.env.items() if name in _NO_SECRETS}
    if not workload.resources.devices:
        # A runtime of NVIDIA's gives all GPUs to a container that says nothing.
        plain["NVIDIA_VISIBLE_DEVICES"] = "void"
    container: Object = {
        "name": names.CONTAINER,
        "image": workload.image,
        # `$(NAME)` is a word of Kubernetes' own there, and `$$` is `$`; the owner's are meant for a shell.
        "command": None if workload.command is None else [word.replace("$", "$$") for word in workload.command],
        # Over what comes from the Secret.
        "env": [{"name": name, "value": value} for name, value in plain.items()] or None,
        "envFrom": [{"secretRef": {"name": names.secret_of(workload)}}] if secret_env(workload) else None,
        "ports": [{"containerPort": port, "protocol": "TCP"} for port in workload.ports] or None,
        "resources": _resources(workload, ways),
        # Others would get what is in the node's store already without asking the registry whether they may.
        "imagePullPolicy": "Always" if workload.always_pull or workload.pull_credential is not None else None,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
    }
    return _drop_none(container)


def _resources(workload: Workload, ways: Ways) -> Object:
    wanted = workload.resources
    limits = {
        "cpu": str(wanted.cpu_cores),
        "memory": str(wanted.memory_bytes),
        "ephemeral-storage": str(wanted.container_disk_bytes),
    }
    requests = limits | {
        "cpu": cpu_quantity(max(1, round(wanted.cpu_cores * 1000 / ways.cpu_overcommit))),
        "ephemeral-storage": str(int(wanted.container_disk_bytes / ways.disk_overcommit)),
    }
    if wanted.devices and wanted.gpu_resource:
        amount = {wanted.gpu_resource: str(len(wanted.devices))}
        return {"limits": limits | amount, "requests": requests | amount}
    return {"limits": limits, "requests": requests}


def _affinity(workload: Workload) -> Object | None:
    """Return what keeps the Pod on the machine whose GPUs it was given."""
    hosts = sorted({host_of(device) for device in workload.resources.devices})
    if not hosts:
        return None
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": hosts}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def device_name(host: str, resource: str, index: int) -> str:
    """Return the name of one GPU: its node, its resource, its number there."""
    return f"{host}/{resource}/{index}"


def host_of(device: str) -> str:
    """Return the node of a GPU by its name."""
    return device.partition("/")[0]


def secret_env(workload: Workload) -> dict[str, Secret]:
    """Return the variables that nobody reads who may see the Pod: all but what tells which pod it is."""
    return {name: value for name, value in workload.env.items() if name not in _NO_SECRETS}


def env_secret(workload: Workload) -> Object:
    """Return the Secret with the environment."""
    data = {name: base64.b64encode(value.reveal().encode()).decode() for name, value in secret_env(workload).items()}
    return _secret(workload, names.secret_of(workload), "Opaque", data)


def registry_secret(workload: Workload, credential: RegistryCredential) -> Object:
    """Return the Secret with which its image is pulled."""
    host = "https://index.docker.io/v1/" if credential.host == "docker.io" else credential.host
    both = f"{credential.username}:{credential.password.reveal()}"
    told = {
        "username": credential.username,
        "password": credential.password.reveal(),
        "auth": base64.b64encode(both.encode()).decode(),
    }
    config = json.dumps({"auths": {host: told}})
    data = {".dockerconfigjson": base64.b64encode(config.encode()).decode()}
    return _secret(workload, names.registry_secret_of(workload), "kubernetes.io/dockerconfigjson", data)


def _secret(workload: Workload, name: str, kind: str, data: Mapping[str, str]) -> Object:
    labels = names.pod_labels(workload)
    labels.pop(names.VOLUME, None)  # that is said of Pods and claims
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": names.namespace_of(workload.owner_hash), "labels": labels},
        "type": kind,
        "data": dict(data),
    }


def claim(volume: VolumeMount, workload: Workload, name: str, *, storage_class: str | None, access: str) -> Object:
    """Return the claim of a volume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": names.namespace_of(workload.owner_hash),
            "labels": {
                names.USER: workload.owner_hash,
                names.INSTALLATION: workload.id.installation,
                names.VOLUME: volume.id,
            },
            "annotations": {names.VOLUME_NAME: volume.name},
        },
        "spec": _drop_none(
            {
                "accessModes": [access],
                "storageClassName": storage_class,
                "resources": {"requests": {"storage": str(volume.size_bytes)}},
            }
        ),
    }


def _drop_none(fields: Mapping[str, Any]) -> Object:
    return {name: value for name, value in fields.items() if value is not None}
