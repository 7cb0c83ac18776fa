"""The GPU types that Neuropod ships with, read from the file beside this module. Used by service."""

import tomllib
from importlib import resources
from typing import Any

from neuropod.kit.money import micros


def starter_types() -> list[dict[str, Any]]:
    """Return the columns of each type, in the order of lists."""
    text = resources.files("neuropod.catalogue").joinpath("gpu_types.toml").read_text("utf-8")
    return [
        {
            "name": entry["name"],
            "title": entry["title"],
            "position": position,
            "enabled": True,
            "price_micros_per_hour": micros(entry["price"]),
            "cpu_cores": entry["cpu_cores"],
            "memory_gb": entry["memory_gb"],
            "gpus": entry["gpus"],
            "model_pattern": entry["model"],
            "gpu_resource": entry.get("resource", ""),
            "node_selector": entry.get("node_selector", {}),
            "runtimes": [],
        }
        for position, entry in enumerate(tomllib.loads(text)["gpu_type"])
    ]
