"""Whose will a request with a pass is, told from what browsers send."""

import pytest

from neuropod.gateway.rules import Circumstances, is_own_will, wants_page

OWN = b"https://lab-abcdefgh-8888.pods.example"
SIBLING = b"https://evil-aaaaaaaa-1.pods.example"


def _request(method=b"GET", **values):
    facts = {
        "origin": None, "fetch_site": None, "fetch_mode": None, "fetch_dest": None, "referer": None, "upgrade": False,
        "body": False,
    }  # fmt: skip
    return Circumstances(method=method, **(facts | values))


NAVIGATION = {"fetch_mode": b"navigate", "fetch_dest": b"document"}


@pytest.mark.parametrize(
    ("request_", "own"),
    [
        (_request(fetch_site=b"none", **NAVIGATION), True),  # the address bar
        (_request(fetch_site=b"cross-site", **NAVIGATION), True),  # a link
        (_request(fetch_site=b"same-site", **NAVIGATION), True),  # a link of another pod
        (_request(fetch_site=b"same-origin", fetch_mode=b"cors", fetch_dest=b"empty"), True),
        (_request(b"POST", origin=OWN, fetch_site=b"same-origin"), True),
        (_request(b"POST", origin=b"null", fetch_site=b"same-origin"), True),  # a page without referrers
        (_request(b"POST", origin=OWN), True),
        (_request(upgrade=True, origin=OWN), True),
        (_request(fetch_site=b"same-site", fetch_mode=b"no-cors", fetch_dest=b"image"), False),
        (_request(fetch_site=b"same-site", fetch_mode=b"navigate", fetch_dest=b"iframe"), False),
        (_request(b"POST", origin=SIBLING, fetch_site=b"same-site", **NAVIGATION), False),
        (_request(b"POST", origin=b"null", fetch_site=b"cross-site", **NAVIGATION), False),
        (_request(b"HEAD", fetch_site=b"same-site", **NAVIGATION), False),
        (_request(body=True, fetch_site=b"same-site", **NAVIGATION), False),
        (_request(origin=SIBLING, fetch_site=b"same-site", fetch_mode=b"cors"), False),
        (_request(origin=SIBLING), False),
        (_request(), False),
        (_request(b"POST"), False),
        (_request(upgrade=True), False),
        (_request(upgrade=True, origin=SIBLING), False),
        (_request(upgrade=True, origin=b"null", fetch_site=b"same-origin"), False),
        (_request(upgrade=True, fetch_site=b"none", **NAVIGATION), False),
        (_request(origin=OWN + b".evil.example"), False),
    ],
)
def test_only_the_pods_own_pages_the_address_bar_and_links_use_a_pass(request_, own):
    assert is_own_will(request_, OWN, told=True) is own


@pytest.mark.parametrize(
    ("request_", "own"),
    [
        (_request(), True),
        (_request(referer=OWN + b"/page"), True),
        (_request(referer=SIBLING + b"/page"), False),
        (_request(referer=OWN + b".evil.example/"), False),
        (_request(b"POST"), False),
        (_request(origin=b"null"), False),
        (_request(fetch_site=b"same-site"), False),
    ],
)
def test_where_browsers_tell_nothing_safe_requests_go_by_their_referer(request_, own):
    assert is_own_will(request_, OWN, told=False) is own


@pytest.mark.parametrize(
    ("request_", "accept", "page"),
    [
        (_request(**NAVIGATION), b"text/html,*/*", True),
        (_request(), b"text/html", True),
        (_request(), b"*/*", False),
        (_request(b"POST"), b"text/html", False),
        (_request(fetch_mode=b"cors", fetch_dest=b"empty"), b"text/html", False),
        (_request(fetch_mode=b"navigate", fetch_dest=b"iframe"), b"text/html", False),
        (_request(upgrade=True), b"text/html", False),
    ],
)
def test_pages_are_for_people(request_, accept, page):
    assert wants_page(request_, accept) is page
