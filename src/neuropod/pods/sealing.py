"""A pod's secrets in its rows: environment and Jupyter tokens, sealed for the place where they stand (SECURITY 35).

Called by service. `box` is the installation's; a ciphertext that was copied to another row does not open there.
"""

import json
from collections.abc import Mapping

from neuropod.kit.secrets import Secret, SecretBox
from neuropod.pods.jupyter import new_jupyter_token
from neuropod.pods.records import IncarnationRow, PodRow
from neuropod.words import JupyterMode


class Sealing:
    """Seals and opens."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box

    def seal_env(self, pod_id: str, env: Mapping[str, Secret]) -> bytes | None:
        """Return a pod's environment sealed, None for an empty one."""
        if not env:
            return None
        plain = json.dumps({name: value.reveal() for name, value in env.items()})
        return self._box.seal(Secret(plain), place=_env_place(pod_id))

    def open_env(self, row: PodRow) -> dict[str, Secret]:
        """Return what the owner put into the environment."""
        if row.env_sealed is None:
            return {}
        plain = json.loads(self._box.open(row.env_sealed, place=_env_place(row.id)).reveal())
        return {name: Secret(value) for name, value in plain.items()}

    def new_token(self, pod_id: str, jupyter: JupyterMode) -> bytes | None:
        """Return a new platform token sealed, None where the pod has none."""
        if jupyter is not JupyterMode.PLATFORM:
            return None
        return self._box.seal(new_jupyter_token(), place=_token_place(pod_id))

    def platform_token(self, row: PodRow) -> Secret | None:
        """Return the pod's own token, kept over stop and start."""
        sealed = row.jupyter_token_sealed
        return None if sealed is None else self._box.open(sealed, place=_token_place(row.id))

    def seal_log_token(self, incarnation_id: str, token: Secret) -> bytes:
        """Return a token read from a log, sealed for that incarnation alone."""
        return self._box.seal(token, place=_log_token_place(incarnation_id))

    def log_token(self, row: IncarnationRow) -> Secret | None:
        """Return the token that an incarnation told in its log."""
        sealed = row.jupyter_token_sealed
        return None if sealed is None else self._box.open(sealed, place=_log_token_place(row.id))


def _env_place(pod_id: str) -> str:
    return f"pods/{pod_id}/env"


def _token_place(pod_id: str) -> str:
    return f"pods/{pod_id}/jupyter_token"


def _log_token_place(incarnation_id: str) -> str:
    return f"incarnations/{incarnation_id}/jupyter_token"
