"""Secrets: values that a person keeps by name, for their pods."""

from datetime import datetime

from pydantic import SecretStr

from neuropod.wire.shapes import Answer, Page, Request


class SecretSet(Request):
    """The value to keep."""

    value: SecretStr
    """1 byte to 64 KiB of text without null bytes. Stored encrypted, never shown again."""


class SecretPod(Answer):
    """A pod that names the secret."""

    id: str
    name: str


class UserSecret(Answer):
    """A secret; its value is never told."""

    name: str
    set_at: datetime
    pods: list[SecretPod]
    """That name it in their variables; they are given the value at each start."""


class SecretPage(Page[UserSecret]):
    """All of one's secrets, by name."""
