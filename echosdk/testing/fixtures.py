"""The pytest plugin of the contract tests: `pytest_plugins = ["echosdk.testing.fixtures"]` in the top `conftest.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from echosdk.interfaces import Run, Trainable


@pytest.fixture(scope="class")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """Make components in the same trained state: one is trained and saved, and each is built anew and loads that."""
    import torch

    from echosdk.integrity import refuse_code
    from echosdk.testing.data import training_data

    contract = request.cls()
    first = contract.build()
    if not isinstance(first, Trainable):
        return contract.build  # type: ignore[no-any-return]
    folder = tmp_path_factory.mktemp("trained")
    public, private = folder / "public", folder / "private"
    public.mkdir()
    private.mkdir()
    torch.manual_seed(0)
    first.fit(training_data(contract.shape), Run(folder=folder / "run"))
    first.save(public, private)
    refuse_code(public)
    refuse_code(private)

    def loaded() -> Any:
        component = contract.build()
        component.load(public, private)
        return component

    return loaded
