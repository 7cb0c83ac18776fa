"""The objects by which an ingress controller carries traffic to ports. Pure: routes in, objects out.

Called by reconcile.ingress with the routes of one runtime. Per port, in its owner's namespace:

- a Service that selects the Pod of the ready incarnation, and nobody while none is ready;
- an EndpointSlice of ours while none is ready: the Service then leads to our gateway, which answers with its pages;
- an Ingress to the Service, which asks the gate first (traefik.py, nginx.py);
- an Ingress of the gate's own paths (`/.neuropod/…`) to our gateway, where nothing is asked: the gateway checks itself.

What the ports of a user share: a Service that always leads to our gateway, and Middlewares. Objects belong to the pod,
not to an incarnation; they are wanted as long as its route is. A carrier that cannot gate has public ports only
(SECURITY 11).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neuropod.gateway.carriers import nginx, traefik
from neuropod.gateway.carriers.names import (
    GATE,
    INCARNATION,
    OURS,
    POD,
    SLICE_OWNER,
    SLICE_SERVICE,
    PortNames,
    port_labels,
    port_names,
    user_labels,
)
from neuropod.gateway.carriers.style import Carrier
from neuropod.gateway.routes import Route
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, SERVICES, Kind
from neuropod.kube.objects import Object
from neuropod.settings import PodsAddress
from neuropod.words import Access

OWN_PATHS = "/.neuropod"
_PORT_NAME = "http"  # what Service, EndpointSlice and controllers know the port by
_NOBODY = "0"  # no incarnation has this number


@dataclass(frozen=True, slots=True)
class Ref:
    """Which object: one of a kind, by its name."""

    kind: Kind
    namespace: str
    name: str


def wanted_objects(carrier: Carrier, routes: Iterable[Route], pods: PodsAddress) -> dict[Ref, Object]:
    """Return all objects that are wanted for the routes of a runtime whose pods are at `pods`."""
    wanted: dict[Ref, Object] = {}
    users: dict[str, Route] = {}
    for route in routes:
        objects = objects_of_port(carrier, route, pods)
        wanted |= objects
        if objects:
            users.setdefault(port_names(route).namespace, route)
    for route in users.values():
        wanted |= objects_of_user(carrier, route)
    return wanted


def objects_of_port(carrier: Carrier, route: Route, pods: PodsAddress) -> dict[Ref, Object]:
    """Return what one port needs by itself."""
    if carrier.gate is None and route.access is not Access.PUBLIC:
        return {}
    names = port_names(route)
    labels = port_labels(carrier.installation, route, names)
    objects: dict[Ref, Object] = {}

    def add(kind: Kind, name: str, content: Mapping[str, Any], *, annotations: Mapping[str, str] | None = None) -> None:
        objects[Ref(kind, names.namespace, name)] = _object(kind, names.namespace, name, labels, content, annotations)

    add(SERVICES, names.service, _service(route))
    annotations = _port_annotations(carrier, route, names, pods)
    add(INGRESSES, names.ingress, _ingress(carrier, route, pods, names.service, route.port), annotations=annotations)
    if carrier.kind == "ingress" and carrier.gate is not None:
        add(traefik.KIND, names.gate, traefik.gate(carrier, route.host))
    if carrier.gate is not None:
        own = _own_annotations(carrier, pods)
        add(INGRESSES, names.gate, _ingress(carrier, route, pods, GATE, 80, own_paths=True), annotations=own)
        if route.incarnation is None:
            endpoints = _to_gateway(carrier, names.namespace, names.gate, names.service, labels)
            objects[Ref(ENDPOINT_SLICES, names.namespace, names.gate)] = endpoints
    return objects


def objects_of_user(carrier: Carrier, route: Route) -> dict[Ref, Object]:
    """Return what all ports of the route's owner share."""
    names = port_names(route)
    labels = user_labels(carrier.installation, names)
    objects: dict[Ref, Object] = {}
    if carrier.gate is not None:
        service = {"spec": {"type": "ClusterIP", "ports": [_port(80, carrier.gate.port)]}}
        objects[Ref(SERVICES, names.namespace, GATE)] = _object(SERVICES, names.namespace, GATE, labels, service, None)
        endpoints = _to_gateway(carrier, names.namespace, GATE, GATE, labels)
        objects[Ref(ENDPOINT_SLICES, names.namespace, GATE)] = endpoints
    if carrier.kind == "ingress":
        for name, content in traefik.shared(gated=carrier.gate is not None).items():
            objects[Ref(traefik.KIND, names.namespace, name)] = _object(
                traefik.KIND, names.namespace, name, labels, content, None
            )
    return objects


def _object(
    kind: Kind,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    content: Mapping[str, Any],
    annotations: Mapping[str, str] | None,
) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "labels": dict(labels)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content}


def _port(number: int, target: int) -> Object:
    return {"name": _PORT_NAME, "port": number, "targetPort": target, "protocol": "TCP"}


def _service(route: Route) -> Object:
    """Return a Service with a selector at all times.

    Without one, the cluster would leave the addresses there that the last one found, and they are given to other Pods.
    """
    incarnation = _NOBODY if route.incarnation is None else str(route.incarnation)
    return {
        "spec": {
            "type": "ClusterIP",
            "selector": {POD: route.pod_id, INCARNATION: incarnation},
            "ports": [_port(route.port, route.port)],
        }
    }


def _to_gateway(carrier: Carrier, namespace: str, name: str, service: str, labels: Mapping[str, str]) -> Object:
    """Return the EndpointSlice by which a Service leads to our gateway."""
    assert carrier.gate is not None
    family = ipaddress.ip_address(carrier.gate.addresses[0]).version
    return _object(
        ENDPOINT_SLICES,
        namespace,
        name,
        {**labels, SLICE_SERVICE: service, SLICE_OWNER: OURS},
        {
            "addressType": f"IPv{family}",
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}
                for address in carrier.gate.addresses
            ],
            "ports": [{"name": _PORT_NAME, "port": carrier.gate.port, "protocol": "TCP"}],
        },
        None,
    )


def _ingress(
    carrier: Carrier, route: Route, pods: PodsAddress, service: str, port: int, *, own_paths: bool = False
) -> Object:
    path = {
        "path": OWN_PATHS if own_paths else "/",
        # A dot in a path of type Prefix is refused by controllers that think of regular expressions.
        "pathType": "ImplementationSpecific" if own_paths else "Prefix",
        "backend": {"service": {"name": service, "port": {"number": port}}},
    }
    spec: Object = {
        "ingressClassName": carrier.ingress_class,
        "rules": [{"host": route.host, "http": {"paths": [path]}}],
    }
    if pods.scheme == "https":
        secret = {} if carrier.tls_secret is None else {"secretName": carrier.tls_secret}
        spec["tls"] = [{"hosts": [route.host], **secret}]
    return {"spec": spec}


def _port_annotations(carrier: Carrier, route: Route, names: PortNames, pods: PodsAddress) -> dict[str, str]:
    if carrier.kind == "nginx":
        return nginx.port_annotations(carrier, route.host, pods)
    return traefik.port_annotations(
        names, gated=carrier.gate is not None, public=route.access is Access.PUBLIC, https=pods.scheme == "https"
    )


def _own_annotations(carrier: Carrier, pods: PodsAddress) -> dict[str, str]:
    if carrier.kind == "nginx":
        return nginx.own_annotations(carrier, pods)
    return traefik.own_annotations(https=pods.scheme == "https")
