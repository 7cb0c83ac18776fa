"""SECURITY 33: a stranger's readme is no script, frame, form or style in anybody's page."""

import re
from html.parser import HTMLParser

import pytest

from neuropod.api.markdown import safe_html

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java&#x09;script:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    "![x](https://evil.example/pixel.png)",
    '<a href="https://ok.example" onclick="alert(1)" style="position:fixed">x</a>',
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=alert(1)&gt;'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<form action=https://evil.example><input name=password></form>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href=https://evil.example>",
    '```"><script>alert(1)</script>\nx\n```',
    '[a](https://ok.example "\\" onmouseover=\\"alert(1)")',
    '<https://ok.example/"onmouseover=alert(1)>',
    "[" * 5000 + "x" + "](y)" * 5000,
    ">" * 5000 + " deep",
]
HARMLESS = {"href", "title", "rel", "start"}


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_no_readme_becomes_more_than_text_with_links(payload: str):
    seen = _Seen()
    seen.feed(safe_html(payload))
    seen.close()

    active = {"script", "img", "svg", "math", "style", "iframe", "form", "input", "meta", "base", "object", "link"}
    assert not active & set(seen.tags)
    assert {name for name, _ in seen.attributes} <= HARMLESS
    for name, value in seen.attributes:
        if name == "href":
            scheme = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", (value or "").lower()))
            assert scheme is None or scheme[1] in {"http", "https", "mailto"}


def test_what_people_write_reads_as_they_meant_it():
    html = safe_html("# Lab\n\n- *one*\n- [two](https://example.org)\n\n`code`\n\n| a |\n|---|\n| b |\n")

    assert "<h1>Lab</h1>" in html
    assert "<em>one</em>" in html
    assert '<a href="https://example.org" rel="noopener noreferrer nofollow">two</a>' in html
    assert "<code>code</code>" in html
    assert "<td>b</td>" in html
