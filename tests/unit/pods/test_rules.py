"""The rules of a launch, field by field."""

import pytest

from neuropod.kit.secrets import Secret
from neuropod.pods import rules
from neuropod.pods.launch import PortRequest
from neuropod.templates.snapshot import TemplatePort
from neuropod.words import Access, JupyterMode

OFF, PLATFORM = JupyterMode.OFF, JupyterMode.PLATFORM


def codes(errors) -> list[tuple[str, str]]:
    return [(error.field, error.code) for error in errors]


@pytest.mark.parametrize("name", ["a", "lab", "my-lab-2", "a" * 40])
def test_good_names(name: str):
    assert not rules.wrong_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "1a", "a_b", "a" * 41, "a.b", "ä", "a\n"])
def test_bad_names(name: str):
    assert codes(rules.wrong_name(name)) == [("name", "pattern")]


@pytest.mark.parametrize(
    "image",
    [
        "ubuntu",
        "ubuntu:24.04",
        "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime",
        "ghcr.io/some-one/a_b/c__d:v1",
        "localhost:5000/x",
        "registry.example.org/x@sha256:" + "a" * 64,
    ],
)
def test_good_images(image: str):
    assert not rules.wrong_image(image)


@pytest.mark.parametrize(
    "image",
    ["", "Ubuntu", "ubuntu:", "-x", "a b", "http://x/y", "x:" + "t" * 129, "x@sha256:abc", "../x", "x\n", "a" * 513],
)
def test_bad_images(image: str):
    assert codes(rules.wrong_image(image)) == [("image", "pattern")]


def test_commands_are_arguments_within_limits():
    assert not rules.wrong_command(None)
    assert not rules.wrong_command(("sh", "-c", ""))
    for command, code in (((), "empty"), (("",), "empty"), (("a\0",), "null_byte"), (("x",) * 101, "too_long")):
        assert codes(rules.wrong_command(command)) == [("command", code)]


@pytest.mark.parametrize("name", ["A", "_x", "http_proxy", "LD_PRELOAD", "PATH"])
def test_good_variables(name: str):
    assert not rules.wrong_env({name: Secret("x")})


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA_VISIBLE_DEVICES",
        "nvidia_visible_devices",
        "CUDA_VISIBLE_DEVICES",
        "NEUROPOD_POD_NAME",
        "JUPYTER_TOKEN",
    ],
)
def test_reserved_variables_are_refused(name: str):
    assert codes(rules.wrong_env({name: Secret("all")})) == [(f"env.{name}", "reserved")]


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", "A\n", "A" * 129])
def test_bad_variables(name: str):
    assert [code for _, code in codes(rules.wrong_env({name: Secret("x")}))] == ["pattern"]


def test_an_environment_has_a_size_and_its_values_are_not_repeated():
    assert codes(rules.wrong_env({"A": Secret("x" * 65536)})) == [("env", "too_large")]
    assert codes(rules.wrong_env({f"A{n}": Secret("") for n in range(101)})) == [("env", "too_large")]
    (error,) = rules.wrong_env({"A": Secret("secret\0value")})
    assert error.code == "null_byte"
    assert "secret" not in error.message


def test_all_wrong_ports_are_named_at_once():
    ports = [PortRequest(0), PortRequest(80), PortRequest(80), PortRequest(70000, name=" x"), PortRequest(8, name="")]

    assert codes(rules.wrong_ports(ports, limit=4)) == [
        ("ports.0.port", "range"),
        ("ports.2.port", "twice"),
        ("ports.3.port", "range"),
        ("ports.3.name", "pattern"),
        ("ports.4.name", "pattern"),
        ("ports", "too_many"),
    ]


TEMPLATE = (TemplatePort(8888, "Jupyter Lab"), TemplatePort(6006, "TensorBoard", Access.MEMBERS))


def test_ports_are_the_templates_unless_they_are_given():
    assert rules.ports_with_defaults(None, TEMPLATE, PLATFORM) == TEMPLATE
    assert rules.ports_with_defaults((), TEMPLATE, PLATFORM) == []


def test_names_and_access_come_from_the_template_then_from_jupyter_then_by_number():
    asked = [
        PortRequest(6006),
        PortRequest(8888),
        PortRequest(5000),
        PortRequest(5001, name="Service 2"),
        PortRequest(5002, access=Access.PUBLIC),
    ]

    assert rules.ports_with_defaults(asked, TEMPLATE[1:], PLATFORM) == [
        TemplatePort(6006, "TensorBoard", Access.MEMBERS),
        TemplatePort(8888, "Jupyter Lab", Access.PRIVATE),
        TemplatePort(5000, "Service 1", Access.PRIVATE),
        TemplatePort(5001, "Service 2", Access.PRIVATE),
        TemplatePort(5002, "Service 3", Access.PUBLIC),
    ]
    assert rules.ports_with_defaults([PortRequest(8888)], (), OFF)[0].name == "Service 1"


def test_jupyter_on_a_plain_image_opens_its_port():
    assert rules.ports_with_defaults(None, (), PLATFORM) == [TemplatePort(8888, "Jupyter Lab")]
    assert rules.ports_with_defaults(None, (), OFF) == ()
