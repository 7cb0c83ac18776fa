"""The rows of templates."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record


class TemplateRow(Record):
    """A template. What it says of the pod itself is one JSON value, `snapshot.TemplateSnapshot`, which a pod copies."""

    __tablename__ = "templates"
    __table_args__ = (
        Index(
            "uq_templates_name_starter",
            "name",
            unique=True,
            sqlite_where=text("author_id IS NULL"),
            postgresql_where=text("author_id IS NULL"),
        ),
        Index("uq_templates_author_id_name", "author_id", "name", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]  # as typed after --template
    author_id: Mapped[str | None] = mapped_column(ForeignKey(UserRow.id))  # None: a starter, shipped with Neuropod
    public: Mapped[bool]
    title: Mapped[str]
    description: Mapped[str]
    readme: Mapped[str]  # Markdown, shown sanitised
    snapshot: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
