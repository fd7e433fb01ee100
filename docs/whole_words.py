"""A hook of mkdocs: where a command is wrapped, its words stay whole, `--out` and `my-bundle` included."""

import re
from typing import Any

CONSOLE = re.compile(r'<div class="language-console highlight">.*?</div>', re.DOTALL)
WORD = re.compile(r'(<span class="w"> </span>)([^<\s]+)')


def on_page_content(html: str, **_: Any) -> str:
    return CONSOLE.sub(lambda block: WORD.sub(r'\1<span class="whole">\2</span>', block[0]), html)
