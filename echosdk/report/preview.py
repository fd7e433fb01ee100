"""`preview.html`: a self-contained page with some of the kept videos."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def render_preview(
    manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], read_video: Callable[[str], bytes]
) -> str:
    """Return the page. `samples` are the index's rows; `read_video` gives the video file of a key."""
    return "<!doctype html>" + "".join(
        f'<video autoplay loop muted src="data:video/mp4;base64,{base64.b64encode(read_video(s["key"])).decode()}"></video>'
        for s in samples[:8]
    )
