"""Rows with every required column filled, for tests that start from the middle."""

from datetime import UTC, datetime
from typing import Any

from neuropod.accounts.records import UserRow
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kit.money import Micros
from neuropod.pods.records import PodRow
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.words import JupyterMode, Reason, Role, Want

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def user_row(email: str | None = None, **values: Any) -> UserRow:
    user_id = new_id("usr")
    defaults: dict[str, Any] = {
        "id": user_id,
        "email": email or f"{user_id}@example.org",
        "name": "Somebody",
        "role": Role.CLIENT,
        "hash": user_hash(user_id),
        "password_hash": None,
        "created_at": NOW,
    }
    return UserRow(**(defaults | values))


def pod_row(owner: UserRow, **values: Any) -> PodRow:
    defaults: dict[str, Any] = {
        "id": new_id("pod"),
        "owner_id": owner.id,
        "created_by": owner.id,
        "name": "lab",
        "runtime_id": "fake:one",
        "created_at": NOW,
        "want": Want.RUNNING,
        "want_reason": Reason.REQUESTED,
        "want_at": NOW,
        "requested_at": NOW,
        "template_id": None,
        "template": TemplateSnapshot(name="plain", title="Plain").to_json(),
        "image": "plain",
        "command": None,
        "env_sealed": None,
        "gpu_type": "cpu",
        "gpu_count": 1,
        "cpu_cores": 1,
        "memory_gb": 1,
        "container_disk_gb": 1,
        "volume_id": None,
        "price_micros_per_hour": Micros(300_000),
        "jupyter": JupyterMode.OFF,
        "jupyter_token_sealed": None,
        "due_at": NOW,
    }
    return PodRow(**(defaults | values))
