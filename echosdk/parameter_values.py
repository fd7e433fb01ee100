"""Read a parameter's plain value (from TOML, JSON or the command line) as what its annotation says.

Nothing is coerced: `3.9` is no whole number, `"false"` no truth value. A whole number is a number, a list a tuple.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from echosdk.errors import PluginSetError

Choose = Callable[[str, Iterable[str]], str]
"""Say what the choices are, given what was written."""

_SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    types.NoneType: ("nothing", (types.NoneType,)),
}


def read_value(value: Any, wanted: Any, where: str, choose: Choose) -> Any:
    """Return a value as the annotation `wanted`; raises `PluginSetError` that says where, what and what is wanted."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        if not any(type(value) is type(one) and value == one for one in inner):
            raise PluginSetError(f"{where}: no such value {value!r}; {choose(str(value), map(str, inner))}")
    elif origin in (Union, types.UnionType):
        return _read_union(value, inner, where, choose)
    elif origin in (tuple, list, Sequence):
        if not isinstance(value, list | tuple) or (_length(wanted) or len(value)) != len(value):
            raise PluginSetError(_wants(wanted, value, where))
        each = inner if _length(wanted) else inner[:1] * len(value)
        items = [read_value(item, one, where, choose) for item, one in zip(value, each, strict=True)]
        return items if origin is list else tuple(items)
    elif attrs.has(wanted):
        return _read_table(value, wanted, where, choose)
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise PluginSetError(_wants(wanted, value, where))
        return {key: read_value(item, inner[1], f"{where}.{key}", choose) for key, item in value.items()}
    elif wanted in _SCALARS:
        if type(value) not in _SCALARS[wanted][1]:
            raise PluginSetError(_wants(wanted, value, where))
        if type(value) is int and not -(2**63) <= value < 2**63:  # no tensor and no C library takes it
            raise PluginSetError(f"{where}: wants a number of at most 64 bits, got {str(value)[:20]}...")
        return float(value) if wanted is float else value
    elif isinstance(wanted, type) and not isinstance(value, wanted):
        raise PluginSetError(_wants(wanted, value, where))
    return value


def plain_value(value: Any) -> Any:
    """Return a value as plain TOML would hold it."""
    return cattrs.unstructure(value)


def type_words(wanted: Any) -> str:
    """Say what an annotation takes: `a whole number`, `a list of numbers`, `'adam' or 'sgd'`."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(one) for one in inner)
    if origin in (tuple, list, Sequence):
        length = _length(wanted)
        return f"a list of {length}" if length else f"a list, each {type_words(inner[0])}"
    if attrs.has(wanted) or origin in (dict, Mapping):
        return "a table"
    if wanted in _SCALARS:
        return _SCALARS[wanted][0]
    return "anything" if wanted is Any else getattr(wanted, "__name__", str(wanted))


def _read_union(value: Any, options: Sequence[Any], where: str, choose: Choose) -> Any:
    for option in options:
        try:
            return read_value(value, option, where, choose)
        except PluginSetError:
            continue
    told = [option for option in options if option is not types.NoneType]
    if len(told) == 1:
        return read_value(value, told[0], where, choose)
    raise PluginSetError(f"{where}: wants {' or '.join(map(type_words, told))}, got {value!r} ({type(value).__name__})")


def _read_table(value: Any, wanted: Any, where: str, choose: Choose) -> Any:
    if isinstance(value, wanted):
        return value
    if not isinstance(value, Mapping):
        raise PluginSetError(_wants(wanted, value, where))
    hints = get_type_hints(wanted)
    known = {(one.alias or one.name): hints.get(one.name, Any) for one in attrs.fields(wanted) if one.init}
    for key in value:
        if key not in known:
            raise PluginSetError(f"{where}.{key}: no such key; {choose(key, known)}")
    try:
        return wanted(**{key: read_value(item, known[key], f"{where}.{key}", choose) for key, item in value.items()})
    except (ValueError, TypeError) as error:  # a validator's: the message is the first of its arguments
        raise PluginSetError(f"{where}: {error.args[0] if error.args else error}") from error


def _length(wanted: Any) -> int | None:
    """Return how long a tuple must be, None where that is free."""
    inner = get_args(wanted)
    return len(inner) if typing.get_origin(wanted) is tuple and Ellipsis not in inner else None


def _wants(wanted: Any, value: Any, where: str) -> str:
    return f"{where}: wants {type_words(wanted)}, got {value!r} ({type(value).__name__})"
