"""The default plugins keep the contracts, and for every contract test there is a fault that it alone finds."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from echosdk_alternatives import PixelCorrelation
from echosdk_reid import PearsonReID
from echosdk_stitch import OverlapBlend, OverlapDiscard

from echosdk.testing import FilterContract, StitcherContract
from echosdk.training import Recipe

MUTANTS = Path(__file__).with_name("mutants.py")


class TestPearsonReID(FilterContract):
    def build(self) -> PearsonReID:
        recipe = Recipe(steps=4, batch_size=8, learning_rate=1e-3, optimizer="adam")
        return PearsonReID(architecture="small", layers=(1,), features=16, min_patients=80, recipe=recipe)


class TestPixelCorrelation(FilterContract):
    shape = (1, 32, 32)

    def build(self) -> PixelCorrelation:
        return PixelCorrelation(size=16)


class TestOverlapDiscard(StitcherContract):
    def build(self) -> OverlapDiscard:
        return OverlapDiscard(micro_batch=3)


class TestOverlapBlend(StitcherContract):
    def build(self) -> OverlapBlend:
        return OverlapBlend(micro_batch=3)


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", MUTANTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mutant_is_found_by_one_test_and_every_test_finds_one(mutants: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "test_mutants.py").write_text(MUTANTS.read_text())
    failed: dict[str, set[str]] = defaultdict(set)
    passed: dict[str, set[str]] = defaultdict(set)

    class Results:
        def pytest_runtest_logreport(self, report: Any) -> None:
            _, contract, name = report.nodeid.split("::")
            if report.failed:
                failed[contract].add(name.partition("[")[0])
            elif report.when == "call":
                passed[contract].add(name.partition("[")[0])

    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "echosdk.testing.fixtures", "--rootdir", str(tmp_path)]
    pytest.main([*options, "-c", "/dev/null", str(tmp_path / "test_mutants.py")], plugins=[Results()])
    expected = {**mutants.FILTERS, **mutants.STITCHERS}
    assert {f"Test{mutant.__name__}" for mutant in expected} == {*passed}
    found = {mutant.__name__: failed[f"Test{mutant.__name__}"] for mutant in expected}
    assert found == {mutant.__name__: {name} if name else set() for mutant, name in expected.items()}
    for contract, table in ((FilterContract, mutants.FILTERS), (StitcherContract, mutants.STITCHERS)):
        assert {name for name in vars(contract) if name.startswith("test_")} == {*table.values()} - {None}


@pytest.mark.parametrize("contract", [FilterContract, StitcherContract])
def test_a_contract_says_what_is_to_be_given(contract: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"Contract: build\(\) is to return a new "):
        contract().build()
