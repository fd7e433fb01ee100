"""Fixtures: the installed plugins, and a bundle trained in seconds that has every part a real one has."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attrs import define, field, frozen

from echosdk import Registry, noise_key
from echosdk.bundle import Bundle
from echosdk.cli import main
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training.stages import Training, train_bundle

pytest_plugins = ["echosdk.testing.fixtures"]

torch.set_num_threads(1)  # tiny networks: more threads only wait for each other

TINY_DATA = "phantom?patients=16&frames=40&size=32"


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.discover()


@define
class Secrets:
    """In place of `secrets` where noise keys are made: each is another, and each test draws the same in every run.

    What is drawn from a bundle is drawn with its key: by chance six samples would now and then be of one class.
    """

    whose: str = ""
    _drawn: Counter[str] = field(factory=Counter)

    def token_bytes(self, number: int) -> bytes:
        whose = self.whose or os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        self._drawn[whose] += 1
        return hashlib.shake_256(f"{whose} {self._drawn[whose]}".encode()).digest(number)

    def token_hex(self, number: int) -> str:
        return self.token_bytes(number).hex()


@pytest.fixture(scope="session", autouse=True)
def noise_keys() -> Iterator[Secrets]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_key, "secrets", found := Secrets())
        yield found


@pytest.fixture(scope="session")
def trained_tiny(registry: Registry, noise_keys: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle `default-tiny`, trained once a session; do not change it: take a copy (`tiny_bundle`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_keys, "whose", "trained_tiny")
        return _trained_tiny(registry, tmp_path_factory)


def _trained_tiny(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    return train_bundle(
        Training(
            plugin_set=resolve(registry, PluginSet.find("default-tiny", registry)),
            registry=registry,
            source=open_source(registry, TINY_DATA),
            source_name=TINY_DATA,
            out=out,
            work=out.with_name("work"),
        )
    )


@pytest.fixture
def tiny_bundle(trained_tiny: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle's folder."""
    return Path(shutil.copytree(trained_tiny.folder, tmp_path / "tiny-bundle"))


@pytest.fixture
def make_module() -> Callable[[str, str], ModuleType]:
    """Make a module of source text, as a plugin's author writes it."""

    def make(name: str, source: str) -> ModuleType:
        module = ModuleType(name)
        code = compile(textwrap.dedent(source), name, "exec", dont_inherit=True)
        exec(code, module.__dict__)
        return module

    return make


@pytest.fixture(scope="session")
def code_blocks() -> Callable[[Path, str], list[str]]:
    """Return the fenced blocks of one language in a Markdown file."""

    def find(path: Path, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)

    return find


@frozen
class Outcome:
    """What a command left: its exit status, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def run_echosdk(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process, as the console script does."""

    def run(*arguments: str) -> Outcome:
        status = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            assert ended.code is None or isinstance(ended.code, int)
            status = ended.code or 0
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run
