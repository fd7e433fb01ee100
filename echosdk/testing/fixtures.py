"""The pytest plugin of the contract tests: `pytest_plugins = ["echosdk.testing.fixtures"]` in the top `conftest.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from echosdk.interfaces import Run, Trainable


@frozen
class Fitted:
    """A component as its training left it, and how to make others that load what it saved."""

    component: Any
    loaded: Callable[[], Any]


@pytest.fixture(scope="class")
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Train a component on the contract's clips and save it; one that learns nothing is built, and built again."""
    import torch

    from echosdk.integrity import refuse_code

    contract = request.cls()
    first = contract.build()
    if not isinstance(first, Trainable):
        return Fitted(first, contract.build)
    folder = tmp_path_factory.mktemp("trained")
    public, private = folder / "public", folder / "private"
    public.mkdir()
    private.mkdir()
    torch.manual_seed(0)
    first.fit(contract.data(), Run(folder=folder / "run"))
    first.save(public, private)
    refuse_code(public)
    refuse_code(private)

    def loaded() -> Any:
        component = contract.build()
        component.load(public, private)
        return component

    return Fitted(first, loaded)


@pytest.fixture(scope="class")
def trained(fitted: Fitted) -> Callable[[], Any]:
    """Make components in the same trained state: one was trained and saved, and each is built anew and loads that."""
    return fitted.loaded
