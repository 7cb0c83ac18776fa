"""What all shapes share: how requests and answers are read, pages, and prices."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr
from pydantic_core import to_jsonable_python

T = TypeVar("T")


class Request(BaseModel):
    """The body of a request: unknown fields are refused (SECURITY 30)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def sent(self) -> dict[str, Any]:
        """Return the JSON that a client sends, secrets revealed: only what was given, as absent and null can differ."""
        sent: dict[str, Any] = to_jsonable_python(_revealed(self.model_dump(exclude_unset=True)))
        return sent


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _revealed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_revealed(part) for part in value]
    return value


class Answer(BaseModel):
    """The body of an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Page(Answer, Generic[T]):
    """A part of a list."""

    # Docstrings of fields are looked up in the source, and for `Page[…]` along the whole stack of imports: that was a
    # second of every start (measured). So what these two mean stands in the fields.
    model_config = ConfigDict(use_attribute_docstrings=False)

    items: list[T] = Field(description="The part, in the list's order.")
    next_cursor: str | None = Field(
        default=None, description="Continues after the last item when sent as `cursor`; null at the end."
    )


class Price(Answer):
    """What an hour costs."""

    per_hour: str
    """The amount as a decimal text, for people: `0.30`."""

    per_hour_micros: int
    """The same in millionths, for programs."""

    currency: str = "EUR"
    """ISO 4217."""


def limits(least: int, most: int | None = None) -> Any:
    """Return a whole number whose limits are published here and checked by the use-case, with all its other rules."""
    published: dict[str, JsonValue] = {"minimum": least}
    if most is not None:
        published["maximum"] = most
    return Field(strict=True, json_schema_extra=published)
