"""`neuropod pod quote`: the options of `pod create`, and a price by its parts."""

from typing import Any

from support.commands import CommandLine, PlayedServer, pod_json


def price(text: str) -> dict[str, Any]:
    return {"per_hour": text, "per_hour_micros": 0, "currency": "EUR"}


def quote_json(**changes: Any) -> dict[str, Any]:
    parts = {"gpu_type": "5.00", "container_disk": "0.10", "volume": "0.20", "pod": "5.10", "total": "5.30"}
    quote = {
        "launchable": True, "obstacles": [], "fits": True, "ever_fits": True, "reason": None,
        "message": "It starts at once.", "place": None, "holders": [], "limits": {"pods": 1, "pods_most": 20},
        "prices": {part: price(text) for part, text in parts.items()}, "gpu_type": "rtx-4090", "gpu_count": 2,
        "gpus": 2, "cpu_cores": 16, "memory_gb": 96, "container_disk_gb": 10, "volume": "data", "volume_gb": 20,
        "volume_is_new": True, "runtime": "fake:one",
    }  # fmt: skip
    return quote | changes


def test_a_quote_asks_what_a_launch_asks_and_shows_the_parts(line: CommandLine, played: PlayedServer):
    played.on("POST", "/pods/quote", quote_json())

    ran = line.run(
        "pod", "quote", "-t", "jupyterlab", "--gpu-type", "rtx-4090", "--gpu-count", "2", "--volume", "data:20"
    )

    (sent,) = played.bodies("POST", "/pods/quote")
    assert sent.pop("name").startswith("quote-")
    assert sent == {"template": "jupyterlab", "gpu_type": "rtx-4090", "gpu_count": 2,
                    "volume": {"name": "data", "size_gb": 20}}  # fmt: skip
    for text in ("at once", "5.00 EUR 2 x rtx-4090: 16 cores", "0.10 EUR container disk, 10 GB",
                 "5.10 EUR the pod, while it runs", "0.20 EUR volume data, 20 GB", "5.30 EUR in all", "1 of 20"):  # fmt: skip
        assert text in ran.out


def test_who_is_in_the_way_is_told(line: CommandLine, played: PlayedServer):
    holders = [{"gpus": 1, "pod": "mine", "owner": "ada@example.org"}, {"gpus": 2, "pod": None, "owner": None}]
    obstacle = {"code": "name_taken", "message": "name 'lab' is taken"}
    played.on("POST", "/pods/quote", quote_json(
        fits=False, reason="no_gpu", message="No rtx-4090 is free (3 in use).", place=1, holders=holders,
        obstacles=[obstacle], launchable=False, volume=None, volume_gb=None,
    ))  # fmt: skip

    ran = line.run("pod", "quote", "lab", "-t", "jupyterlab")

    assert played.bodies("POST", "/pods/quote")[0]["name"] == "lab"
    assert "later: No rtx-4090 is free" in ran.out
    assert "mine of ada@example.org (1), other people's pods (2)" in ran.out
    assert "name 'lab' is taken" in ran.out
    assert "in all" not in ran.out


def test_a_pod_that_waits_shows_who_it_waits_for(line: CommandLine, played: PlayedServer):
    holders = [{"gpus": 1, "pod": None, "owner": None}]
    played.on(
        "GET", "/pods/lab", pod_json(status="waiting", reason="no_gpu", place=1, gpu_type="rtx-4090", holders=holders)
    )

    assert "other people's pods (1)" in line.run("pod", "show", "lab").out
