"""Settings that depend on each other: clusters beside this machine, and the addresses that are made of them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from neuropod.settings import ClusterSettings, Settings

FILE = Path("/etc/lab.yaml")


def cluster(name: str = "lab", **settings: object) -> ClusterSettings:
    return ClusterSettings(name=name, kubeconfig=FILE, **settings)  # type: ignore[arg-type]


def test_pods_run_on_this_machine_unless_a_cluster_is_given_or_it_is_said():
    assert Settings().runs_local_pods
    assert not Settings(kubernetes=(cluster(),)).runs_local_pods
    assert Settings(kubernetes=(cluster(),), local={"enabled": True}).runs_local_pods
    assert not Settings(local={"enabled": False}).runs_local_pods


def test_a_kubeconfig_alone_is_a_cluster(monkeypatch):
    monkeypatch.setenv("NEUROPOD_KUBECONFIG", str(FILE))

    (only,) = Settings().clusters

    assert (only.name, only.kubeconfig, only.carrier, only.dials_directly) == ("kubernetes", FILE, "gateway", False)


def test_the_variable_of_kubectl_connects_nothing(monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(FILE))

    assert Settings().clusters == ()


def test_clusters_are_read_from_the_file(tmp_path, monkeypatch):
    (tmp_path / "neuropod.toml").write_text(
        """
        [[kubernetes]]
        name = "lab"
        in_cluster = true
        gateway_namespace = "neuropod"
        gateway_labels = { app = "neuropod" }
        """
    )
    monkeypatch.setenv("NEUROPOD_CONFIG", str(tmp_path / "neuropod.toml"))

    (only,) = Settings().clusters

    assert (only.name, only.gateway_labels, only.dials_directly) == ("lab", {"app": "neuropod"}, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "local", "in_cluster": True}, "the name of another runtime"),
        ({"name": "Lab", "in_cluster": True}, "pattern"),
        ({"name": "lab"}, "either kubeconfig or in_cluster"),
        ({"name": "lab", "kubeconfig": FILE, "in_cluster": True}, "either kubeconfig or in_cluster"),
        ({"name": "lab", "in_cluster": True, "context": "x"}, "context belongs to kubeconfig"),
        ({"name": "lab", "in_cluster": True, "carrier": "ingress"}, "needs gate_url"),
        ({"name": "lab", "in_cluster": True, "carrier": "nginx", "gate_url": "https://gate"}, "must be http://"),
        (
            {"name": "lab", "in_cluster": True, "carrier": "nginx", "gate_url": "http://gate/x"},
            "scheme, domain and port",
        ),
        ({"name": "lab", "in_cluster": True, "ingress_class": "traefik"}, "belongs to the carriers"),
        ({"name": "lab", "in_cluster": True, "gateway_labels": {"app": "x"}}, "belong to gateway_namespace"),
        ({"name": "lab", "in_cluster": True, "pods_url": "pods.example.org"}, "scheme, domain and port alone"),
    ],
)
def test_a_cluster_that_contradicts_itself_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ClusterSettings(**settings)


def test_two_clusters_have_two_names():
    with pytest.raises(ValidationError, match="two clusters are called 'lab'"):
        Settings(kubernetes=(cluster(), cluster()))
    with pytest.raises(ValidationError, match="two clusters are called 'kubernetes'"):
        Settings(kubernetes=(cluster("kubernetes"),), kubeconfig=FILE)


def test_one_domain_has_one_scheme_and_port():
    with pytest.raises(ValidationError, match=r"the pods domain pods\.lab has two schemes or ports"):
        Settings(
            kubernetes=(cluster("a", pods_url="https://pods.lab"), cluster("b", pods_url="https://pods.lab:8443")),
        )


def test_pods_of_a_cluster_have_its_domain_and_all_others_the_installations():
    settings = Settings(
        kubernetes=(
            cluster("plain"),
            cluster("own", pods_domain="own.example.org"),
            cluster("far", pods_domain="far.example.org", carrier="ingress", gate_url="http://gate"),
            cluster("said", pods_url="https://said.example.org:8443"),
        )
    )

    addresses = settings.addresses(8080)

    origins = {name: addresses.pods_address(name).origin("h") for name in ("plain", "own", "far", "said", None)}
    assert origins == {
        "plain": "http://h:8080",
        "own": "http://h:8080",
        "far": "https://h",
        "said": "https://h:8443",
        None: "http://h:8080",
    }
    assert addresses.pod_origin("a-b-1.far.example.org") == "https://a-b-1.far.example.org"
    assert addresses.pod_origin("a-b-1.neuropod-pods.localhost") == "http://a-b-1.neuropod-pods.localhost:8080"
    assert set(addresses.by_domain) == {
        "neuropod-pods.localhost", "own.example.org", "far.example.org", "said.example.org"
    }  # fmt: skip


def test_addresses_survive_the_way_to_a_gateway_of_its_own():
    addresses = Settings(kubernetes=(cluster("own", pods_domain="own.example.org"),)).addresses(8080)

    assert type(addresses)(**addresses.model_dump()) == addresses
