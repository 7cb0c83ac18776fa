"""What the reference of an image says: whose registry it is, and whether a list allows it."""

import pytest

from neuropod.pods.images import full_name, is_allowed, normal_host, registry_of
from neuropod.pods.rules import wrong_image

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "host", "name"),
    [
        ("ubuntu", "docker.io", "docker.io/library/ubuntu"),
        ("ubuntu:24.04", "docker.io", "docker.io/library/ubuntu"),
        ("lab/notebook:1", "docker.io", "docker.io/lab/notebook"),
        ("docker.io/ubuntu", "docker.io", "docker.io/library/ubuntu"),
        ("index.docker.io/lab/x", "docker.io", "docker.io/lab/x"),
        ("ghcr.io/lab/x/y:1.2", "ghcr.io", "ghcr.io/lab/x/y"),
        (f"ghcr.io/lab/x@{DIGEST}", "ghcr.io", "ghcr.io/lab/x"),
        (f"ghcr.io/lab/x:1@{DIGEST}", "ghcr.io", "ghcr.io/lab/x"),
        ("registry:5000/x:1", "registry:5000", "registry:5000/x"),
        ("localhost/x", "localhost", "localhost/x"),
        ("GHCR.io/lab/x", "ghcr.io", "ghcr.io/lab/x"),
        ("LAB/x", "lab", "lab/x"),  # clients take it for a host, since paths have no capitals
        ("registry.lab:5000/a:b", "registry.lab:5000", "registry.lab:5000/a"),
    ],
)
def test_a_reference_has_its_registry_and_full_name(image: str, host: str, name: str):
    assert wrong_image(image) == ()
    assert (registry_of(image), full_name(image)) == (host, name)


@pytest.mark.parametrize("host", ["", "ghcr", "a b.io", "a/b.io", "ghcr.io/", "ghcr.io:", "ghcr.io:x", "ghcr.io:123456",
                                  "https://ghcr.io", "ä.io", "a..b", ".a.b", "a.b\n", "a" * 250 + ".com"])  # fmt: skip
def test_what_no_reference_has_as_its_host_is_none(host: str):
    assert normal_host(host) is None


def test_the_hub_has_one_name():
    assert {normal_host(name) for name in ("docker.io", "Index.Docker.io", "registry-1.docker.io")} == {"docker.io"}


@pytest.mark.parametrize(
    ("image", "patterns", "allowed"),
    [
        ("anything", (), True),
        ("ghcr.io/lab/x:1", ("ghcr.io/lab/*",), True),
        ("ghcr.io/lab/x/y", ("ghcr.io/lab/*",), True),
        ("ghcr.io/other/x", ("ghcr.io/lab/*",), False),
        ("ghcr.io.evil.org/lab/x", ("ghcr.io/lab/*",), False),
        ("evil.org/ghcr.io/lab/x", ("ghcr.io/lab/*",), False),
        ("ubuntu:24.04", ("docker.io/library/*",), True),
        ("docker.io/library/ubuntu", ("docker.io/library/ubuntu",), True),
        ("lab/ubuntu", ("docker.io/library/*",), False),
        ("ubuntu", ("ghcr.io/*", "docker.io/library/ubuntu"), True),
        ("GHCR.IO/lab/x", ("ghcr.io/lab/*",), True),
    ],
)
def test_a_list_allows_what_one_of_its_patterns_is_for(image: str, patterns: tuple[str, ...], allowed: bool):
    assert is_allowed(image, patterns) is allowed
