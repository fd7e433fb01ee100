"""What the documents show is run: Python on a tiny dataset, and every command line as far as its options."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import echosdk
from echosdk import Registry, hookspecs, open_dataset
from echosdk.bundle import SCHEMA_VERSION, Bundle, Manifest
from echosdk.generation.dataset import NO_FILTER
from echosdk.generation.generate import Options, generate
from echosdk.hookspecs import HOOKS
from echosdk.interfaces import KINDS
from echosdk.plugin_set import SAMPLING, PluginSet
from echosdk.privacy.policy import Limit

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ECHOSDK = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?echosdk (?=\S)")


def snippets() -> Iterator[Any]:
    """Yield every Python block of the pages."""
    for path in PAGES:
        for number, (language, block) in enumerate(FENCED.findall(path.read_text())):
            if language == "python":
                yield pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")


def commands() -> Iterator[Any]:
    """Yield every line of a console and every phrase in backquotes that calls echosdk, and whether it is whole."""
    for path in (*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"):
        text = path.read_text()
        blocks = "".join(block for language, block in FENCED.findall(text) if language == "console")
        lines = [(line[2:], True) for line in blocks.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
        lines += [(" ".join(said.split()), False) for said in re.findall(r"`([^`]+)`", FENCED.sub("", text))]
        for line, whole in dict.fromkeys(lines):
            if ECHOSDK.match(line):
                yield pytest.param(line, whole, id=f"{path.relative_to(ROOT)}: {line}")


@pytest.fixture(scope="module")
def demo(trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a dataset `demo` lies, as the tutorial leaves it."""
    folder = tmp_path_factory.mktemp("docs")
    options = Options(plugin_set="default-tiny", bundle=str(trained_tiny.folder), num_videos=4, num_frames=8)
    generate(str(folder / "demo"), options=options, registry=registry)
    return folder


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to Python
@pytest.mark.parametrize("source", list(snippets()))
def test_a_snippet_runs_beside_the_dataset_demo(
    source: str, demo: Path, make_module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo)
    make_module("snippet", source)
    printed = capsys.readouterr().out.splitlines()
    if "print(sample" in source:
        assert len(printed) == 4
        assert all(re.fullmatch(r"synthetic-0000000\d torch.Size\(\[8, 1, 32, 32\]\) {.*}", line) for line in printed)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_snippet_on_a_datasets_card_runs_inside_it(
    demo: Path, code_blocks: Callable[[Path, str], list[str]], make_module: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (source,) = code_blocks(demo / "demo" / "README.md", "python")
    monkeypatch.chdir(demo / "demo")
    make_module("snippet", source)
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(("line", "whole"), list(commands()))
def test_a_command_line_names_commands_and_options_that_there_are(
    line: str, whole: bool, run_echosdk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of a console is whole; a phrase in a sentence may leave out what is required."""
    monkeypatch.setattr(click.Command, "invoke", lambda self, context: None)  # parse, and do nothing
    ended = run_echosdk(*shlex.split(ECHOSDK.sub("", line, count=1)))
    missing = not whole and ended.err.startswith(("echosdk: Missing ", "Usage: "))
    assert ended.status == 0 or missing, ended.err


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for path in PAGES:
        if path.is_relative_to(ROOT / "docs"):
            assert f": {path.relative_to(ROOT / 'docs').as_posix()}\n" in navigation, path
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_without_the_filter_those_files_warn_first_of_which_the_docs_say_so(
    trained_tiny: Bundle, registry: Registry, tmp_path: Path
) -> None:
    bundle = str(trained_tiny.folder)
    options = Options(plugin_set="default-tiny", bundle=bundle, num_videos=1, num_frames=4, privacy_filter=False)
    generate(str(tmp_path), options=options, registry=registry)
    warned = {path.name for path in tmp_path.iterdir() if NO_FILTER.encode() in path.read_bytes()}
    assert warned == {"README.md", "preview.html", "dataset.json"}
    assert (tmp_path / "README.md").read_text().startswith(f"**{NO_FILTER}**\n")
    assert next(iter(json.loads((tmp_path / "dataset.json").read_text()))) == "warning"


def test_every_key_of_a_bundles_manifest_is_documented() -> None:
    page = (ROOT / "docs/reference/bundle-format.md").read_text()
    for field in attrs.fields(Manifest):
        assert f"`{field.name}`" in page, field.name
    assert f'"schema": {SCHEMA_VERSION}`' in page


def test_every_key_of_a_datasets_manifest_and_of_a_sample_is_documented(demo: Path) -> None:
    page = (ROOT / "docs/reference/dataset-format.md").read_text()
    manifest = json.loads((demo / "demo" / "dataset.json").read_text())
    for key in manifest.keys() - {"schema"}:
        assert f"`{key}`" in page, key
    assert f'"schema": {manifest["schema"]}`' in page
    sample = next(iter(open_dataset(str(demo / "demo"))))
    for key in sample.keys() - {"key", "video", "__key__"}:
        assert f"`{key}`" in page, key


def test_every_key_of_a_plugin_set_is_documented_and_the_documented_one_is_whole() -> None:
    page = (ROOT / "docs/reference/plugin-sets.md").read_text()
    (block,) = (block for language, block in FENCED.findall(page) if language == "toml")
    assert set(PluginSet.parse(block, "the page").sampling) == set(SAMPLING)
    assert set(tomllib.loads(block)) == {"fps", "bundle", "sampling", *KINDS}


def test_every_key_of_a_policy_is_documented() -> None:
    page = (ROOT / "docs/how-to/write-a-policy.md").read_text()
    for field in attrs.fields(Limit):
        assert f"`{field.name}`" in page, field.name


def test_the_reference_is_made_from_the_program_itself() -> None:
    """So every hook, contract, error and command is in it; `make docs` builds it."""
    made = {
        "hooks": "::: echosdk.hookspecs\n",
        "contracts": "::: echosdk.interfaces\n",
        "errors": "::: echosdk.errors\n",
        "cli": "::: mkdocs-click\n    :module: echosdk.cli\n    :command: app\n",
    }
    for page, directive in made.items():
        assert directive in (ROOT / f"docs/reference/{page}.md").read_text()
    for hook in HOOKS.values():
        assert getattr(hookspecs, hook).__doc__.count("```python") == 1, hook
    for name in echosdk.__all__:
        if isinstance(member := getattr(echosdk, name), type) and issubclass(member, Exception):
            assert member.__doc__, name
