"""The shipped components keep their contracts, and for every contract test there is a fault that it alone finds."""

from __future__ import annotations

import functools
import importlib.util
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from echosdk_alternatives import BootstrapNoise, CategoryClassifier, Identity, PixelCorrelation, Static, TinyVAE
from echosdk_echonet import EchoNetDynamic, write_layout
from echosdk_ef import EFRegressor
from echosdk_lidm import LIDM
from echosdk_lvdm import LVDM
from echosdk_phantom import PhantomSource
from echosdk_reid import PearsonReID
from echosdk_stitch import OverlapBlend, OverlapDiscard
from echosdk_vae import VAE

from echosdk.interfaces import CONTRACTS as VERSIONS
from echosdk.testing import (
    CONTRACTS,
    AnimatorContract,
    EncoderContract,
    FilterContract,
    PriorContract,
    SourceContract,
    StitcherContract,
    ValidatorContract,
)
from echosdk.training import Recipe

ONE_OF_A_KIND = ("published_layout", "feature_extractor")  # each reads one particular file of somebody's
KINDS = [kind for kind in VERSIONS if kind not in ONE_OF_A_KIND]
MUTANTS = Path(__file__).with_name("mutants")
QUICK = Recipe(steps=2, batch_size=4, learning_rate=1e-3)


class TestVAE(EncoderContract):
    def build(self) -> VAE:
        return VAE(blocks=(8, 8), layers_per_block=1, channels=1, norm_groups=4, lpips="off", recipe=QUICK)


class TestColourVAE(EncoderContract):
    shape = (3, 24, 16)

    def build(self) -> VAE:
        return VAE(blocks=(8, 8), layers_per_block=1, channels=3, norm_groups=4, lpips="off", recipe=QUICK)


class TestIdentity(EncoderContract):
    shape = (3, 12, 8)

    def build(self) -> Identity:
        return Identity()


class TestTinyVAE(EncoderContract):
    def build(self) -> TinyVAE:
        return TinyVAE(blocks=(8, 8), layers_per_block=1, channels=1, recipe=QUICK)


class TestLIDM(PriorContract):
    shape = (4, 6, 8)  # padded to 8 x 8

    def build(self) -> LIDM:
        return LIDM(
            blocks=(8, 8), layers_per_block=1, attention_head_dim=4, norm_groups=4, num_inference_steps=3, recipe=QUICK
        )


class TestBootstrapNoise(PriorContract):
    def build(self) -> BootstrapNoise:
        return BootstrapNoise(stills=8)


class TestPearsonReID(FilterContract):
    def build(self) -> PearsonReID:
        recipe = Recipe(steps=4, batch_size=8, learning_rate=1e-3, optimizer="adam")
        return PearsonReID(architecture="small", layers=(1,), features=16, min_patients=80, recipe=recipe)


class TestPixelCorrelation(FilterContract):
    shape = (1, 32, 32)

    def build(self) -> PixelCorrelation:
        return PixelCorrelation(size=16)


class TestLVDM(AnimatorContract):
    def build(self) -> LVDM:
        return LVDM(
            window=4, blocks=(32, 32), attention=(True, False), heads=(2, 2), layers_per_block=1,
            sampler="dpmsolver++", num_inference_steps=3, recipe=QUICK,
        )  # fmt: skip


class TestStatic(AnimatorContract):
    reads_labels = False

    def build(self) -> Static:
        return Static(window=6)


class TestOverlapDiscard(StitcherContract):
    def build(self) -> OverlapDiscard:
        return OverlapDiscard(micro_batch=3)


class TestOverlapBlend(StitcherContract):
    def build(self) -> OverlapBlend:
        return OverlapBlend(micro_batch=3)


class TestEFRegressor(ValidatorContract):
    def build(self) -> EFRegressor:
        return EFRegressor(architecture="small", widths=(4, 8), num_frames=4, period=2, size=16, recipe=QUICK)


class TestCategoryClassifier(ValidatorContract):
    def build(self) -> CategoryClassifier:
        return CategoryClassifier(widths=(4, 8), num_frames=3, period=2, size=8, recipe=QUICK)


class TestPhantom(SourceContract):
    def build(self) -> PhantomSource:
        return PhantomSource(patients=8, videos=2, frames=3, size=16)

    def build_other(self) -> PhantomSource:
        return PhantomSource(patients=8, videos=2, frames=3, size=16, seed=1)


@functools.cache
def echonet(patients: int) -> str:
    """Write simulated patients in the layout, once, and return where."""
    location = f"memory://contract-{patients}-patients"
    write_layout(PhantomSource(patients=patients, frames=3, size=16), location)
    return location


class TestEchoNet(SourceContract):
    def build(self) -> EchoNetDynamic:
        return EchoNetDynamic(location=echonet(8))

    def build_other(self) -> EchoNetDynamic:
        return EchoNetDynamic(location=echonet(9))


def read_mutants(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mutants_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mutants() -> dict[str, ModuleType]:
    return {path.stem: read_mutants(path) for path in sorted(MUTANTS.glob("*.py"))}


def test_every_mutant_is_found_by_one_test_and_every_test_finds_one(
    mutants: dict[str, ModuleType], tmp_path: Path
) -> None:
    for path in MUTANTS.glob("*.py"):
        (tmp_path / f"test_{path.name}").write_text(path.read_text())
    failed: dict[str, set[str]] = defaultdict(set)
    passed: dict[str, set[str]] = defaultdict(set)

    class Results:
        def pytest_runtest_logreport(self, report: Any) -> None:
            file, mutant, name = report.nodeid.split("::")
            mutant = f"{file.removeprefix('test_').removesuffix('.py')}: {mutant.removeprefix('Test')}"
            if report.failed:
                failed[mutant].add(name.partition("[")[0])
            elif report.when == "call":
                passed[mutant].add(name.partition("[")[0])

    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "echosdk.testing.fixtures", "--rootdir", str(tmp_path)]
    pytest.main([*options, "-c", "/dev/null", str(tmp_path)], plugins=[Results()])
    expected = {
        f"{kind}: {mutant.__name__}": {name} if name else set()
        for kind, module in mutants.items()
        for mutant, name in module.MUTANTS.items()
    }
    assert {*passed} == {*expected}
    assert {mutant: failed[mutant] for mutant in expected} == expected
    for module in mutants.values():
        asked = {name for name in vars(module.Contract) if name.startswith("test_")}
        assert asked == {*module.MUTANTS.values()} - {None}


def test_every_kind_has_a_contract_and_every_contract_its_mutants(mutants: dict[str, ModuleType]) -> None:
    assert {*CONTRACTS} == {*KINDS}
    assert {*CONTRACTS.values()} == {module.Contract for module in mutants.values()}


def test_the_docs_say_what_every_contract_asks_and_what_every_template_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-plugin.md").read_text()
    for kind, contract in CONTRACTS.items():
        assert f"| `{kind}` |" in page
        assert f"| `{contract.__name__}` |" in page


@pytest.mark.parametrize("contract", CONTRACTS.values())
def test_a_contract_says_what_is_to_be_given(contract: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"Contract: build\(\) is to return a new "):
        contract().build()
