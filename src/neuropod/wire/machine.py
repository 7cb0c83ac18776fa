"""What the machine's own commands say to a running server over its 0600 socket (`/machine/…`). No part of the API."""

from datetime import datetime

from neuropod.wire.shapes import Answer, Request
from neuropod.words import Role


class SignInLinkAsk(Request):
    """Ask for a one-time sign-in link."""

    email: str | None = None
    """Whose; default the first administrator's."""


class SignInLinkMade(Answer):
    """The link, which works once."""

    email: str
    url: str
    expires_at: datetime


class UserCreate(Request):
    """Make a person."""

    email: str
    role: Role = Role.CLIENT
    name: str | None = None


class UserCreated(Answer):
    """A person just made, and the link with which they sign in for the first time."""

    id: str
    email: str
    role: Role
    hash: str
    link: SignInLinkMade


class Down(Request):
    """End all workloads and the server."""

    stop_pods: bool = False
    """Also wish the pods stopped, so that they stay so at the next start."""


class DownDone(Answer):
    """What was ended."""

    workloads_ended: int
    pods_stopped: int


class UnknownWorkload(Answer):
    """Something that runs, or ran, and belongs to no row: made after the backup that was restored."""

    runtime: str
    pod: str
    """The pod's id."""

    incarnation: int
    phase: str
    started_at: datetime | None


class Epoch(Answer):
    """Which restore this is, and what a confirmation would sweep away."""

    epoch: int
    confirmed: bool
    """Nothing is swept while it is not."""

    unknown: list[UnknownWorkload]
    silent: list[str]
    """Runtimes that gave no answer."""


class EpochConfirmed(Answer):
    """That what a restore brought back is right."""

    epoch: int
    changed: bool
    """False: it was confirmed before."""
