"""What may be said in public of a parameter: a text that names a place is a name of its own, and the folders are not.

Folders may name a person or a hospital; a URL may carry a password or a signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def published(value: Any) -> Any:
    """Return a plain value with the last part alone of every path and URL in it.

    A component that reads a file whenever it is used is told again where that lies: `--set KIND.KEY=PATH`.
    """
    if isinstance(value, Mapping):
        return {key: published(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [published(item) for item in value]
    return last_part(value) if is_place(value) else value


def places(value: Any) -> Iterator[str]:
    """Yield every path and URL in a plain value, in order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from places(item)
    elif is_place(value):
        yield value


def is_place(value: object) -> bool:
    """Say whether a value is a text that names a file, a folder or a URL: by its form, or because it is there."""
    if not isinstance(value, str):
        return False
    if value.startswith(("/", "\\", "~", ".")) or re.search(r":[/\\]", value):
        return True
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or no name
        return False


def last_part(place: str) -> str:
    """Return the name of what lies at a place: no folder, host, user, password or query. May be empty."""
    _, scheme, rest = place.rpartition("://")
    path = re.split(r"[?#;]", rest)[0].rstrip("/\\")
    *folders, name = re.split(r"[/\\]", path)
    if scheme and not folders and re.search("[@:.]", name):  # no bucket, but a host, maybe with user and password
        return ""
    return name.strip("~.") and name


def without_secrets(place: str) -> str:
    """Return a URL without user, password and query, which may be new every day; a path as it is."""
    before, scheme, rest = place.rpartition("://")
    if not scheme:
        return place
    host, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{before}{scheme}{host.rpartition('@')[2]}{slash}{path}"
