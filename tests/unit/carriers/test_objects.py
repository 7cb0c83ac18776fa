"""What objects a port needs on a cluster, by carrier, access and whether an incarnation is ready."""

import dataclasses

import pytest

from neuropod.gateway.carriers import names as carriers_names
from neuropod.gateway.carriers.names import port_names
from neuropod.gateway.carriers.objects import Ref, objects_of_port, objects_of_user, wanted_objects
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.style import Carrier, GateAddress
from neuropod.gateway.routes import Route
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, SERVICES
from neuropod.pods.hosts import pod_host
from neuropod.runtimes.kubernetes import names as runtime_names
from neuropod.settings import PodsAddress
from neuropod.words import Access, Reason, Status

HOST = "lab-abcdefgh-8888.pods.example.org"
NS = "neuropod-abcdefgh"
PORT = "lab-abcdefgh-8888"
KEY = CarrierKey(b"k" * 32)
PODS = PodsAddress(scheme="https", domain="pods.example.org", port=None)
GATE = GateAddress("http://gate.neuropod.svc:8080", ("10.0.0.7",), 8080)
TRAEFIK = Carrier("ingress", "npd_1", "traefik", GATE, KEY)
NGINX = Carrier("nginx", "npd_1", "neuropod-nginx", GATE, KEY)
READY = Route(
    HOST, "pod_1", "lab", "usr_1", "kubernetes:u", 3, 8888, Access.PRIVATE, Status.RUNNING, Reason.READY, "Running."
)
STOPPED = dataclasses.replace(READY, incarnation=None, status=Status.STOPPED)
PUBLIC = dataclasses.replace(READY, access=Access.PUBLIC)


def _names(objects):
    return sorted((ref.kind.kind, ref.namespace, ref.name) for ref in objects)


@pytest.mark.parametrize(
    ("carrier", "route", "expected"),
    [
        (TRAEFIK, READY, [("Ingress", "gate"), ("Ingress", "ingress"), ("Middleware", "gate"), ("Service", "service")]),
        (
            TRAEFIK,
            STOPPED,
            [
                ("EndpointSlice", "gate"), ("Ingress", "gate"), ("Ingress", "ingress"), ("Middleware", "gate"),
                ("Service", "service"),
            ],
        ),
        (TRAEFIK, PUBLIC, [("Ingress", "gate"), ("Ingress", "ingress"), ("Middleware", "gate"), ("Service", "service")]),
        (NGINX, READY, [("Ingress", "gate"), ("Ingress", "ingress"), ("Service", "service")]),
        (
            NGINX,
            STOPPED,
            [("EndpointSlice", "gate"), ("Ingress", "gate"), ("Ingress", "ingress"), ("Service", "service")],
        ),
        (dataclasses.replace(TRAEFIK, gate=None), READY, []),
        (dataclasses.replace(NGINX, gate=None), READY, []),
        (dataclasses.replace(TRAEFIK, gate=None), PUBLIC, [("Ingress", "ingress"), ("Service", "service")]),
        (dataclasses.replace(NGINX, gate=None), PUBLIC, [("Ingress", "ingress"), ("Service", "service")]),
    ],
)  # fmt: skip
def test_what_a_port_needs(carrier, route, expected):
    assert _names(objects_of_port(carrier, route, PODS)) == [(kind, NS, f"{PORT}-{end}") for kind, end in expected]


@pytest.mark.parametrize(
    ("carrier", "expected"),
    [
        (TRAEFIK, {"neuropod-gate", "neuropod-private-answers", "neuropod-public-answers"}),
        (NGINX, {"neuropod-gate"}),
        (
            dataclasses.replace(TRAEFIK, gate=None),
            {"neuropod-no-keys", "neuropod-private-answers", "neuropod-public-answers"},
        ),
        (dataclasses.replace(NGINX, gate=None), set()),
    ],
)
def test_what_the_ports_of_a_user_share(carrier, expected):
    assert {ref.name for ref in objects_of_user(carrier, READY)} == expected


def test_a_service_selects_the_ready_incarnation_and_nobody_while_none_is():
    ready = objects_of_port(TRAEFIK, READY, PODS)[Ref(SERVICES, NS, f"{PORT}-service")]
    stopped = objects_of_port(TRAEFIK, STOPPED, PODS)[Ref(SERVICES, NS, f"{PORT}-service")]

    assert ready["spec"]["selector"] == {"neuropod.io/pod": "pod_1", "neuropod.io/incarnation": "3"}
    assert ready["spec"]["ports"] == [{"name": "http", "port": 8888, "targetPort": 8888, "protocol": "TCP"}]
    assert stopped["spec"]["selector"] == {"neuropod.io/pod": "pod_1", "neuropod.io/incarnation": "0"}


def test_while_none_is_ready_the_service_leads_to_the_gateway():
    endpoints = objects_of_port(TRAEFIK, STOPPED, PODS)[Ref(ENDPOINT_SLICES, NS, f"{PORT}-gate")]

    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == f"{PORT}-service"
    assert endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "neuropod"
    assert endpoints["addressType"] == "IPv4"
    assert [endpoint["addresses"] for endpoint in endpoints["endpoints"]] == [["10.0.0.7"]]
    assert endpoints["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_a_gateway_with_an_address_of_ipv6():
    carrier = dataclasses.replace(TRAEFIK, gate=GateAddress("http://[fd00::7]:8080", ("fd00::7",), 8080))

    endpoints = objects_of_port(carrier, STOPPED, PODS)[Ref(ENDPOINT_SLICES, NS, f"{PORT}-gate")]

    assert endpoints["addressType"] == "IPv6"


def test_objects_belong_to_the_pod_and_not_to_an_incarnation():
    for route in (READY, STOPPED):
        for obj in objects_of_port(TRAEFIK, route, PODS).values():
            labels = obj["metadata"]["labels"]
            assert labels.items() >= {
                "app": "lab", "user": "abcdefgh", "neuropod.io/installation": "npd_1", "neuropod.io/pod": "pod_1",
            }.items()  # fmt: skip
            assert "neuropod.io/incarnation" not in labels


@pytest.mark.parametrize(
    ("route", "answers"), [(READY, "neuropod-private-answers"), (PUBLIC, "neuropod-public-answers")]
)
def test_traefik_asks_the_gate_of_the_port_first(route, answers):
    objects = objects_of_port(TRAEFIK, route, PODS)
    ingress = objects[Ref(INGRESSES, NS, f"{PORT}-ingress")]
    middleware = objects[Ref(MIDDLEWARES, NS, f"{PORT}-gate")]

    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["metadata"]["annotations"] == {
        "traefik.ingress.kubernetes.io/router.middlewares": (
            f"{NS}-{PORT}-gate@kubernetescrd,{NS}-{answers}@kubernetescrd"
        ),
        "traefik.ingress.kubernetes.io/router.tls": "true",
    }
    forward = middleware["spec"]["forwardAuth"]
    assert forward["address"] == (
        f"http://gate.neuropod.svc:8080/.neuropod/gate/ingress/{HOST}/{KEY.proof(f'ingress {HOST}')}"
    )
    assert forward["trustForwardHeader"] is False
    assert forward["authResponseHeaders"] == ["Cookie"]


def test_the_nginx_class_asks_the_gate_without_snippets():
    annotations = objects_of_port(NGINX, READY, PODS)[Ref(INGRESSES, NS, f"{PORT}-ingress")]["metadata"]["annotations"]

    said = {name.removeprefix("nginx.ingress.kubernetes.io/"): value for name, value in annotations.items()}
    assert said["auth-url"] == (
        f"http://gate.neuropod.svc:8080/.neuropod/gate/nginx/{HOST}/{KEY.proof(f'nginx {HOST}')}"
    )
    assert said["auth-signin"] == f"https://{HOST}/.neuropod/sign-in"
    assert said["proxy-body-size"] == "0"
    assert said["proxy-read-timeout"] == "3600"
    assert {"Cookie", "X-Neuropod-Key", "X-Neuropod-User", "X_Neuropod_Key"} <= set(
        said["auth-response-headers"].split(",")
    )
    assert not [name for name in said if "snippet" in name]


@pytest.mark.parametrize("carrier", [TRAEFIK, NGINX])
def test_the_gates_own_paths_lead_to_the_gateway_and_ask_nobody(carrier):
    ingress = objects_of_port(carrier, READY, PODS)[Ref(INGRESSES, NS, f"{PORT}-gate")]
    (rule,) = ingress["spec"]["rules"]

    assert rule["host"] == HOST
    assert rule["http"]["paths"] == [
        {
            "path": "/.neuropod",
            "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "neuropod-gate", "port": {"number": 80}}},
        }
    ]
    said = ingress["metadata"].get("annotations", {})
    assert not [name for name in said if "auth-" in name.replace("enable-global-auth", "") or "middlewares" in name]


@pytest.mark.parametrize(("scheme", "has_tls"), [("https", True), ("http", False)])
def test_tls_is_as_the_pods_address_says(scheme, has_tls):
    pods = PodsAddress(scheme=scheme, domain="pods.example.org", port=None)
    carrier = dataclasses.replace(NGINX, tls_secret="pods-tls")

    spec = objects_of_port(carrier, READY, pods)[Ref(INGRESSES, NS, f"{PORT}-ingress")]["spec"]

    assert spec.get("tls") == ([{"hosts": [HOST], "secretName": "pods-tls"}] if has_tls else None)


def test_no_ports_need_nothing_and_two_ports_share_the_users():
    other = dataclasses.replace(READY, host=HOST.replace("8888", "3000"), port=3000)

    assert wanted_objects(TRAEFIK, [], PODS) == {}
    assert wanted_objects(dataclasses.replace(TRAEFIK, gate=None), [READY], PODS) == {}
    assert len(wanted_objects(NGINX, [READY, other], PODS)) == 2 * 3 + 2


def test_names_fit_into_what_kubernetes_allows():
    longest = pod_host("p" * 40, "abcdefgh", 65535, "pods.example.org")
    names = port_names(dataclasses.replace(READY, host=longest, port=65535))

    assert len(names.service) == 63
    assert names.pod == "p" * 40


def test_names_of_pods_with_hyphens_are_told_apart():
    names = port_names(dataclasses.replace(READY, host="my-lab-2-abcdefgh-8888.pods.example.org"))

    assert (names.pod, names.user, names.namespace) == ("my-lab-2", "abcdefgh", NS)


def test_labels_are_the_runtimes():
    for label in ("INSTALLATION", "POD", "INCARNATION", "APP", "USER", "USER_ID"):
        assert getattr(carriers_names, label) == getattr(runtime_names, label)
    assert runtime_names.namespace_of("abcdefgh") == NS
