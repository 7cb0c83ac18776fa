"""`neuropod gpu-type …`: what is free, whose GPUs are whose, and the catalogue as administrators change it."""

from typing import Any

import pytest

from support.commands import CommandLine, PlayedServer, problem


def type_json(**changes: Any) -> dict[str, Any]:
    price = {"per_hour": "2.50", "per_hour_micros": 2_500_000, "currency": "EUR"}
    made = {"name": "rtx-4090", "title": "RTX 4090", "price": price, "cpu_cores": 8, "memory_gb": 48, "gpus": 1,
            "free": 1, "total": 4, "waiting": 2, "on_offer": True, "position": 3, "model_pattern": "RTX 4090"}  # fmt: skip
    return made | changes


def listed(played: PlayedServer, *types: dict[str, Any]) -> None:
    played.on("GET", "/gpu-types", {"items": list(types), "next_cursor": None})


def test_types_say_what_is_free_and_who_waits(line: CommandLine, played: PlayedServer):
    listed(played, type_json(), type_json(name="old", on_offer=False))

    rows = [row.split() for row in line.run("gpu-type", "ls").out.splitlines()]

    assert rows[1] == ["rtx-4090", "1", "of", "4", "2", "2.50", "EUR", "8", "48", "GB", "1", "RTX", "4090"]
    assert rows[2][:2] == ["old", "withdrawn"]


def test_administrators_see_whose_gpu_is_whose(line: CommandLine, played: PlayedServer):
    device = {"name": "GPU-a", "model": "RTX 4090", "memory_bytes": 24 * 2**30, "runtime": "local:1", "trouble": None,
              "pod": "lab", "owner": "ada@example.org"}  # fmt: skip
    broken = device | {"name": "GPU-b", "trouble": "it is lost", "pod": None, "owner": None}
    listed(played, type_json(devices=[device, broken]))

    rows = [row.split() for row in line.run("gpu-type", "ls", "--devices").out.splitlines()]

    assert rows[1] == ["GPU-a", "rtx-4090", "24", "GiB", "lab", "ada@example.org"]
    assert rows[2] == ["GPU-b", "rtx-4090", "24", "GiB", "-", "-", "it", "is", "lost"]
    listed(played, type_json(devices=None))
    assert "administrators" in line.run("gpu-type", "ls", "--devices").err


def test_a_type_is_made_with_what_was_said(line: CommandLine, played: PlayedServer):
    played.on("POST", "/gpu-types", type_json(name="h100", devices=[]), status=201)

    ran = line.run("gpu-type", "create", "h100", "--price", "3.20", "--cores", "16", "--memory", "120",
                   "--model", "NVIDIA H100.*")  # fmt: skip

    assert ran.exit_code == 0
    assert "No GPU here is of this type" in ran.err
    assert played.bodies("POST", "/gpu-types") == [
        {"name": "h100", "price": {"per_hour": "3.20"}, "cpu_cores": 16, "memory_gb": 120,
         "model_pattern": "NVIDIA H100.*"}
    ]  # fmt: skip


def test_a_clusters_type_is_made_with_its_resource_and_labels(line: CommandLine, played: PlayedServer):
    played.on("POST", "/gpu-types", type_json(name="a100"), status=201)
    played.on("PATCH", "/gpu-types/a100", type_json(name="a100"))

    line.run("gpu-type", "create", "a100", "--price", "2", "--cores", "8", "--memory", "60", "--resource",
             "nvidia.com/gpu", "--node-label", "gpu=a100", "--node-label", "zone=b", "--runtime", "lab")  # fmt: skip
    line.run("gpu-type", "edit", "a100", "--node-label", "", "--runtime", "")
    wrong = line.run("gpu-type", "edit", "a100", "--node-label", "gpu")

    (made,), (changed,) = played.bodies("POST", "/gpu-types"), played.bodies("PATCH", "/gpu-types/a100")
    assert (made["gpu_resource"], made["runtimes"]) == ("nvidia.com/gpu", ["lab"])
    assert made["node_selector"] == {"gpu": "a100", "zone": "b"}
    assert changed == {"node_selector": {}, "runtimes": []}
    assert (wrong.exit_code, "NAME=VALUE" in wrong.err) == (2, True)


def test_what_a_type_needs_is_said_before_anything_is_sent(line: CommandLine, played: PlayedServer):
    ran = line.run("gpu-type", "create", "h100", "--price", "3")

    assert "--cores, --memory" in ran.err
    assert played.requests == []


@pytest.mark.parametrize(
    ("words", "sent"),
    [(("--price", "2.80"), {"price": {"per_hour": "2.80"}}), (("--withdrawn",), {"on_offer": False}),
     (("--on-offer", "--gpus", "0"), {"gpus": 0, "on_offer": True})],
)  # fmt: skip
def test_only_what_was_said_is_changed(line: CommandLine, played: PlayedServer, words, sent):
    played.on("PATCH", "/gpu-types/rtx-4090", type_json())

    assert line.run("gpu-type", "edit", "rtx-4090", *words).exit_code == 0
    assert played.bodies("PATCH", "/gpu-types/rtx-4090") == [sent]


def test_a_type_in_use_says_what_to_do_instead(line: CommandLine, played: PlayedServer):
    sentence = "2 pods are of type 'rtx-4090'; withdraw it"
    played.on("DELETE", "/gpu-types/rtx-4090", problem(409, "gpu_type_in_use", sentence))

    ran = line.run("gpu-type", "rm", "rtx-4090")

    assert ran.exit_code != 0
    assert sentence in ran.err
    assert "gpu-type edit" in ran.err


def test_a_type_is_deleted(line: CommandLine, played: PlayedServer):
    played.on("DELETE", "/gpu-types/rtx-4090", {}, status=204)

    assert line.run("gpu-type", "rm", "rtx-4090", "--yes").out == "rtx-4090 is deleted.\n"
