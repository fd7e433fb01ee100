"""The frame of every page that echosdk writes: one HTML file that asks the network for nothing.

Markup is built with `element`, which escapes every `str` it is given; only `Html` passes as it is. So text that comes
from a plugin (a label's name, a source) cannot become markup by being forgotten. A Content-Security-Policy says the
same to the browser: nothing is loaded, and no script runs but this module's.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

_NUMBER = re.compile(r"[<>+-]?\s*\d|-?$|not\s+measured$")

NO_BREAK = "\N{NO-BREAK SPACE}"


class Html(str):
    """Markup; a plain `str` is text. Adding or formatting gives a plain `str` again: a slip shows as visible tags."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | bool) -> Html:
    """Return an element: `class_` stands for `class`, `aria_label` for `aria-label`; True is a bare attribute."""
    marks = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for name, value in attributes.items()
        if value is not False
    )
    return Html(f"<{tag}{marks}>{join(*children)}</{tag}>")


def join(*children: str) -> Html:
    """Return markup and text, the text escaped, one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def section(heading: str, *parts: str) -> Html:
    """Return a part of the page under a heading."""
    return element("section", element("h2", heading), *parts)


def facts(entries: Mapping[str, str], class_: str = "facts") -> Html:
    """Return a list of names and what they are."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in entries.items())
    return element("dl", *pairs, class_=class_)


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, wide: bool = False) -> Html:
    """Return a table whose first column names its rows; every further one is a number, at the right.

    A `wide` one takes the page's whole width, a click on a column's name sorts it, and words are at the left.
    """
    rows = [tuple(row) for row in rows]
    words = [wide and not all(_NUMBER.match(row[i]) for row in rows) for i in range(len(header))]

    def cell(tag: str, text: str, i: int, **more: str) -> Html:
        return element(tag, text, **more, **({"class_": "words"} if words[i] and i else {}))

    head = element("tr", *(cell("th", name, i, scope="col") for i, name in enumerate(header)))
    body = (
        element("tr", element("th", row[0], scope="row"), *(cell("td", text, i) for i, text in enumerate(row) if i))
        for row in rows
    )
    parts = element("caption", caption), element("thead", head), element("tbody", *body)
    inner = element("table", *parts, data_sort=wide)
    class_ = "table wide" if wide else "table"
    return element("div", inner, class_=class_, tabindex="0", role="region", aria_label=caption)


def render_page(title: str, parts: Iterable[str], warning: str | None = None) -> str:
    """Return a whole page. A warning is its first line, and the first words of its title."""
    return _FRAME.substitute(
        policy=_POLICY,
        title=escape(f"{warning} | {title}" if warning else title),
        style=_STYLE,
        warning=element("p", warning, class_="warning", role="note") if warning else "",
        body=join(*parts),
        script=_SCRIPT,
    )


def count(items: int) -> str:
    """Return a count as people write it: 1000, but 12,000."""
    return f"{items:,}" if items >= 10_000 else str(items)


def measured(value: float, span: float) -> str:
    """Return a number with as many decimals as tell a thousandth of its span."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(span)))}f}"


def percent(share: float) -> str:
    """Return a share of 1 as per cent; one that is not quite none, or not quite all, is never rounded to it."""
    if 0 < share < 0.0005:
        return f"{100 * share:.1g}{NO_BREAK}%"
    if 0.9995 <= share < 1:
        return f">{NO_BREAK}99.9{NO_BREAK}%"
    return f"{100 * share:.1f}{NO_BREAK}%"


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


_STYLE: Final = _read("page.css")
_SCRIPT: Final = _read("page.js")
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data:; "
    f"style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}"
)

_FRAME: Final = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
$warning
<main>
$body
</main>
<script>$script</script>
</body>
</html>
""")
