"""Registries: who a person is where the images of their pods come from."""

from datetime import datetime

from pydantic import SecretStr

from neuropod.wire.shapes import Answer, Page, Request


class RegistrySet(Request):
    """Who one is there."""

    username: str
    """1 to 255 printable characters without a colon."""

    password: SecretStr
    """A password or token: 1 byte to 16 KiB of text without null bytes. Stored encrypted, never shown again."""


class UserRegistry(Answer):
    """A registry; its password is never told."""

    host: str
    """As it stands in images, with its port: `ghcr.io`; `docker.io` for images without a host."""

    username: str
    set_at: datetime


class RegistryPage(Page[UserRegistry]):
    """All of one's registries, by host."""
