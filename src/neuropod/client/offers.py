"""What there is to start from, and the server itself."""

from collections.abc import Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.system import System
from neuropod.wire.templates import Template, TemplatePage


class Offers:
    """`/api/v1/templates`, `/api/v1/system`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_templates(self) -> Iterator[Template]:
        """Yield what one may start from."""
        return self._connection.pages(TemplatePage, "/templates")

    def show_template(self, template: str) -> Template:
        """Return a template, by name or id."""
        return self._connection.ask(Template, "GET", f"/templates/{quote(template, safe='')}")

    def show_system(self) -> System:
        """Return the server's version and addresses."""
        return self._connection.ask(System, "GET", "/system")
