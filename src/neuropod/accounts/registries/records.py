"""The rows of registries."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record


class RegistryRow(Record):
    """Who a user is at a registry of images. Pods of theirs with an image from there are pulled as that."""

    __tablename__ = "registries"

    owner_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)  # `ghcr.io`, `registry.lab:5000`, `docker.io`
    username: Mapped[str]
    sealed: Mapped[bytes]  # the password, for `users/<owner_id>/registries/<host>`
    set_at: Mapped[datetime]


class PrivateHostRow(Record):
    """A registry for which somebody ever kept a credential: nodes may have private images from there at hand.

    The row stays when the credential goes, since the images do: what comes from there is asked for anew at each start,
    by whomever (SECURITY 15).
    """

    __tablename__ = "private_registry_hosts"

    host: Mapped[str] = mapped_column(primary_key=True)
