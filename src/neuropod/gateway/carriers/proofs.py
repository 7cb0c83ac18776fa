"""How the gate and its carriers know each other: proofs in the addresses that carriers ask, and carried credentials.

Made by server from the installation's key; a gateway of its own is told it by the server (`/internal/hello`).

Each port's carrier asks an address of its own, which names the host and ends in a proof, so it can be asked about that
host alone, whatever a client writes into forwarded headers (SECURITY 21). Whoever reads a proof (it stands in objects
of the cluster) can ask what any visitor of that host can ask by visiting it: nothing opens without a credential.

A carrier's Service leads to our gateway while no incarnation is ready. The carrier has taken the visitor's credential
off by then, so the gate hands it on sealed, for that host and a moment, and the gateway checks it again as if the
visitor had come straight.
"""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime

from neuropod.kit.secrets import Secret, SecretBox, WrongKeyError

CARRIED = "X-Neuropod-Carried"
_CARRIED_SECONDS = 30
_PROOF_BYTES = 20
_PURPOSE = "carriers of the gateway"


class CarrierKey:
    """The key of both. Never printed, never stored."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._box = SecretBox(key)

    @classmethod
    def of_installation(cls, box: SecretBox) -> "CarrierKey":
        """Return the one that the installation's key makes, the same on every server."""
        return cls(box.derived(_PURPOSE))

    def __repr__(self) -> str:
        return "CarrierKey(***)"

    def proof(self, subject: str) -> str:
        """Return 32 characters (a-z, 2-7) that only we can make for a subject."""
        digest = hmac.digest(self.key, f"proof {subject}".encode(), hashlib.sha256)[:_PROOF_BYTES]
        return base64.b32encode(digest).decode().lower()

    def is_proof(self, subject: str, proof: str) -> bool:
        """Tell whether it is ours, in the same time whatever it is."""
        return hmac.compare_digest(self.proof(subject).encode(), proof.encode())

    def carry(self, key: str | None, pass_value: str | None, host: str, *, now: datetime) -> str:
        """Return a credential, a key or a pass, sealed for a host, to be opened within 30 seconds."""
        ends_at = int(now.timestamp()) + _CARRIED_SECONDS
        content = json.dumps([key, pass_value, ends_at], separators=(",", ":"))
        return base64.urlsafe_b64encode(self._box.seal(Secret(content), place=_place(host))).decode().rstrip("=")

    def carried(self, text: str, host: str, *, now: datetime) -> tuple[str | None, str | None] | None:
        """Return the key and the pass that were sealed for that host lately; None for anything else."""
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            key, pass_value, ends_at = json.loads(self._box.open(sealed, place=_place(host)).reveal())
        except (WrongKeyError, binascii.Error, ValueError):
            return None
        return (key, pass_value) if ends_at > now.timestamp() else None


def _place(host: str) -> str:
    return f"gate/carried/{host}"
