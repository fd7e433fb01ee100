"""The exceptions are the tree that `echosdk.errors` draws, and the public names are all there."""

from __future__ import annotations

import inspect
import re

import pytest

import echosdk
from echosdk import errors


def drawn() -> dict[str, str]:
    """Read the tree of the docstring: each class and its parent."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("```")[1].strip().splitlines()
    parents: dict[str, str] = {}
    path: list[str] = [tree[0]]
    for line in tree[1:]:
        found = re.fullmatch(r"([│ ]*)[├└]── (\w+) +\S.*", line)
        assert found, line
        depth = len(found[1]) // 4 + 1
        path[depth:] = [found[2]]
        parents[found[2]] = path[depth - 1]
    return parents


def defined() -> dict[str, str]:
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, BaseException)]
    return {one.__name__: one.__base__.__name__ for one in classes if one is not errors.EchoError and one.__base__}


def test_every_class_is_drawn_under_its_parent():
    assert drawn() == defined()
    assert errors.EchoError.__base__ is Exception


@pytest.mark.parametrize("name", sorted(defined()))
def test_every_error_is_public_and_says_when(name):
    assert name in echosdk.__all__
    assert getattr(errors, name).__doc__


def test_every_public_name_is_there():
    assert echosdk.__all__ == sorted(set(echosdk.__all__), key=echosdk.__all__.index)
    for name in echosdk.__all__:
        assert getattr(echosdk, name) is not None


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'echosdk' has no attribute 'generat'"):
        echosdk.generat  # noqa: B018
