"""Markdown of strangers as HTML that can stand in a page (SECURITY 33). Called by the routes that show readmes.

Raw HTML is text to the parser already; what it makes is then filtered by an allow-list, so neither is trusted alone.
Pictures are left out: they would tell their host who reads what.
"""

_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def safe_html(markdown: str) -> str:
    """Return HTML without script, style, form, picture, id or class; links lead to the web or mail, nowhere else."""
    # Few servers show a readme in their first second.
    import nh3  # noqa: PLC0415
    from markdown_it import MarkdownIt  # noqa: PLC0415

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    return nh3.clean(
        parser.render(markdown),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
