"""Who a page is for, and where those go who are not signed in."""

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from neuropod.api.pages.rendering import Pages

# Where one may be led after signing in: pages of ours that somebody comes to from outside.
_WAY_BACK = re.compile(r"/(?:gate/continue|connect|password)?(?:\?[A-Za-z0-9_=&.%-]{0,2000})?")


def way_back(to: str) -> str:
    """Return where to go after signing in: a page of ours, whatever was asked for (SECURITY 19)."""
    return to if _WAY_BACK.fullmatch(to) else "/"


def see_other(path: str) -> RedirectResponse:
    """Lead the browser to a page of ours."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def to_sign_in(request: Request, pages: Pages) -> Response:
    """Answer a GET of somebody who is not signed in, or who seems so because they come from another site."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("sec-fetch-site") == "cross-site":
        return pages.bounce(way_back(path))
    to = way_back(path)
    return see_other("/sign-in" if to == "/" else f"/sign-in?to={quote(to, safe='')}")
