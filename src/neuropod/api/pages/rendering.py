"""How pages are made: templates, security headers, static files. Built once per app, passed to the page routes."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from neuropod.api.deps import Caller
from neuropod.kit.errors import NeuropodError, ThrottledError
from neuropod.settings import Addresses

_HERE = Path(__file__).parent
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Pages:
    """Renders pages."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._static = {path.name: path.read_bytes() for path in (_HERE / "static").iterdir()}
        self._version = hashlib.sha256(b"".join(self._static[name] for name in sorted(self._static))).hexdigest()[:10]
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["sentence"] = _sentence

    def page(
        self,
        template: str,
        /,
        *,
        caller: Caller | None = None,
        status: int = 200,
        scripts: bool = False,
        posts_to_pods: bool = False,
        **values: Any,
    ) -> HTMLResponse:
        """Render a template; what it may load and where its forms may lead is said by its headers."""
        html = self._environment.get_template(f"{template}.html").render(
            version=self._version, user=None if caller is None else caller.signed_in.user, **values
        )
        # A form's redirect counts as its target too, so a page whose forms lead to pods has to name them.
        targets = f"'self' {self._pods_pattern}" if posts_to_pods else "'self'"
        script_source = "script-src 'self'; " if scripts else ""
        policy = (
            f"default-src 'none'; style-src 'self'; img-src 'self'; {script_source}"
            f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(
            html,
            status,
            {
                "Content-Security-Policy": policy,
                # Forms must name their origin, which `no-referrer` would blank; no path leaves this host.
                "Referrer-Policy": "strict-origin",
                "Cache-Control": "no-store",
            },
        )

    def error(self, request: Request, error: NeuropodError) -> Response:
        """Render an error for people."""
        caller: Caller | None = getattr(request.state, "caller", None)
        response = self.page(
            "error", caller=caller, status=error.status, title=_TITLES.get(error.status, "This did not work"),
            message=error.message,
        )  # fmt: skip
        if isinstance(error, ThrottledError):
            response.headers["Retry-After"] = str(error.retry_after_seconds)
        return response

    def bounce(self, path: str) -> Response:
        """Render a page that asks for `path` (on this host) again by itself.

        A browser that comes from another site leaves the Strict cookie out; the second request comes from this one.
        """
        return self.page("bounce", path=path)

    def static(self, name: str) -> Response | None:
        """Return a static file; its address changes with its content, so browsers keep it."""
        content = self._static.get(name)
        if content is None:
            return None
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, headers=headers, media_type=_MEDIA_TYPES[Path(name).suffix])

    @property
    def _pods_pattern(self) -> str:
        return " ".join(address.origin(f"*.{domain}") for domain, address in self._addresses.by_domain.items())


def _sentence(message: str) -> str:
    """Return an error's message, which begins small, as a sentence."""
    return message[:1].upper() + message[1:] + ("" if message.endswith((".", "?", "!")) else ".")


_TITLES = {
    401: "Sign in first",
    403: "This is not allowed",
    404: "Nothing is here",
    409: "Not now",
    429: "Too many tries",
    500: "A fault of the server",
    503: "Not available now",
}


async def _pages(request: Request) -> Pages:
    pages: Pages = request.app.state.pages
    return pages


Rendering = Annotated[Pages, Depends(_pages)]
