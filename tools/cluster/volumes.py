"""Serves claims of the classes in objects/storage.yaml with folders of the host, as a provisioner and a resizer do.

A thread of the supervisor. A `local` volume is bound to the node that the scheduler chose; one of the class `shared`,
which binds at once, may be used from both nodes. Folders of deleted volumes go with the cluster.
"""

import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

from .api import MERGE, Api, RefusedError
from .places import NODES, Cluster

PROVISIONER = "neuropod.test/local"
_SELECTED = "volume.kubernetes.io/selected-node"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


def serve(cluster: Cluster, api: Api) -> None:
    """Follow claims for as long as the cluster lives; a cut watch is begun anew and starts with what is there."""
    while True:
        try:
            for event in api.watch(_CLAIMS):
                if event["type"] in {"ADDED", "MODIFIED"}:
                    _attend(cluster, api, event["object"])
        except (OSError, HTTPException, RefusedError, ValueError) as error:
            print(f"the watch of claims ended: {error}", flush=True)
        time.sleep(0.5)


def _attend(cluster: Cluster, api: Api, claim: dict[str, Any]) -> None:
    storage_class = _class_of(api, claim)
    if storage_class is None or storage_class["provisioner"] != PROVISIONER:
        return
    if claim.get("status", {}).get("phase") == "Bound":
        if storage_class.get("allowVolumeExpansion"):
            _grow(api, claim)
        return
    waits = storage_class["volumeBindingMode"] == "WaitForFirstConsumer"
    node = claim["metadata"].get("annotations", {}).get(_SELECTED)
    if waits and node is None:
        return
    nodes = [node] if waits else list(NODES)
    try:
        api.call("POST", _VOLUMES, _volume(cluster, claim, storage_class, nodes))
    except RefusedError as refused:
        if refused.status != 409:  # it was made before, and is being bound
            raise


def _class_of(api: Api, claim: dict[str, Any]) -> dict[str, Any] | None:
    name = claim["spec"].get("storageClassName")
    if not name:
        return None
    try:
        found: dict[str, Any] = api.call("GET", f"{_CLASSES}/{name}")
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise
    return found


def _volume(cluster: Cluster, claim: dict[str, Any], storage_class: dict[str, Any], nodes: list[str]) -> dict[str, Any]:
    metadata = claim["metadata"]
    name = f"pvc-{metadata['uid']}"
    folder: Path = cluster.folder / "volumes" / name
    folder.mkdir(parents=True, exist_ok=True)
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
            "storageClassName": storage_class["metadata"]["name"],
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("namespace", "name", "uid")},
            },
        },
    }


def _grow(api: Api, claim: dict[str, Any]) -> None:
    """Change the numbers, as a folder has no size: first the volume's, as an external resizer does it."""
    wanted = claim["spec"]["resources"]["requests"]["storage"]
    if claim["status"].get("capacity", {}).get("storage") == wanted:
        return
    capacity = {"capacity": {"storage": wanted}}
    api.call("PATCH", f"{_VOLUMES}/{claim['spec']['volumeName']}", {"spec": capacity}, kind=MERGE)
    metadata = claim["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}/status"
    api.call("PATCH", path, {"status": {**capacity, "conditions": []}}, kind=MERGE)
