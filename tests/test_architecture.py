"""The house: who may import whom, that the core knows no modality, that rooms stay small, that only `cli` prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import echosdk
import echosdk.clips
import echosdk.training

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "echosdk").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PLUGIN_NAMES = sorted(folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").is_file())
LONGEST = 400

FLOORS = (
    (
        "abilities", "errors", "feature_extractor", "interfaces", "seeding", "devices", "documents", "integrity", "noise_key",
        "published",
        "published_layout", "torchvision_operators", "words",
    ),
    ("hookspecs", "parameter_values", "clips"),
    ("registry",),
    ("plugin_set", "bundle", "plugin_listing", "plugin_template"),
    ("generation", "training", "evaluation", "privacy", "report", "export"),
    ("protocol", "protocol_choices", "protocol_plan", "protocol_times", "testing", "doctor"),
    ("cli", "__main__"),
)
"""A room imports from its own floor and those above it in this list; the package's own `__init__` from `registry` up."""

NARROWER = {"errors": set(), "interfaces": {"errors"}, "clips": {"clips", "errors", "interfaces"}}
"""Rooms that import less than their floor would let them."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "echosdk").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def allowed(room: str, other: str) -> bool:
    if room in NARROWER:
        return other in NARROWER[room]
    if room == "__init__":
        return FLOOR[other] <= FLOOR["registry"]
    return FLOOR[other] <= FLOOR[room]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_one_way_and_no_plugin(path):
    room, wrong = room_of(path), []
    for line, name in imports(path):
        top, _, rest = name.partition(".")
        if top in PLUGIN_NAMES:
            wrong.append(f"{line}: imports the plugin {name}")
        if top != "echosdk" or (room == "__init__" and rest.startswith("generation.")):
            continue  # the package's lazy names are for the type checker only: that they are lazy is tested in test_cli
        other = rest.partition(".")[0]
        if not rest:
            wrong += [f"{line}: takes echosdk.{used}" for used in taken_from_root(path) - {"__version__"}]
        elif other not in FLOOR:
            wrong.append(f"{line}: takes {other} from the package itself, or FLOORS does not know this room")
        elif other != room and not allowed(room, other):
            wrong.append(f"{line}: {room} must not import {name}")
    assert wrong == []


def taken_from_root(path: Path) -> set[str]:
    """Return what a file uses of a plain `import echosdk`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "echosdk"
    }


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_a_plugin_imports_public_names_and_no_other_plugin(path):
    own = path.relative_to(ROOT / "plugins").parts[0]
    public = {f"echosdk.{name}" for name in echosdk.__all__}
    public |= {f"echosdk.training.{name}" for name in echosdk.training.__all__}
    wrong = []
    for line, name in imports(path):
        top = name.partition(".")[0]
        if top in PLUGIN_NAMES and top != own:
            wrong.append(f"{line}: imports another plugin: {name}")
        if top == "echosdk" and name != "echosdk" and name not in public and not is_public_of_clips(name):
            wrong.append(f"{line}: {name} is not public")
    for used in taken_from_root(path):
        if used not in (*echosdk.__all__, "training", "clips"):
            wrong.append(f"echosdk.{used} is not public")
    assert wrong == []


def is_public_of_clips(name: str) -> bool:
    """Say whether a name is of `echosdk.clips`, or of one of its documented submodules."""
    module, _, last = name.rpartition(".")
    if module == "echosdk.clips":
        return last in echosdk.clips.__all__
    source = ROOT / f"{module.replace('.', '/')}.py"
    if not module.startswith("echosdk.clips.") or not source.is_file():
        return False
    return bool(ast.get_docstring(ast.parse(source.read_text()))) and not last.startswith("_")


def test_the_core_names_no_plugin():
    for path in CORE:
        for name in PLUGIN_NAMES:
            assert not re.search(rf"\b{name}\b", path.read_text()), f"{path}: names {name}"


OF_HEARTS = re.compile(r"heart|cardi|ventric|(?<!r)ejection|diastol|systol|\bbeat|echonet|\b(?:lv)?ef\b", re.IGNORECASE)


def test_the_core_says_nothing_of_hearts():
    others = [p for p in (ROOT / "echosdk").rglob("*") if p.suffix in (".txt", ".css", ".js", ".html", ".toml")]
    assert others
    for path in [*CORE, *others]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            said = OF_HEARTS.search(line)
            assert not said, f"{path}:{number}: says {said and said[0]!r}; the core knows no modality"


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_is_too_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_only_the_command_line_prints():
    for path in CORE + PLUGINS:
        if path.is_relative_to(ROOT / "echosdk" / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            calls = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            assert not calls, f"{path}:{getattr(node, 'lineno', 0)}: prints; say it through `report` or a logger"
        assert not any(name.partition(".")[0] == "click" for _, name in imports(path)), f"{path}: imports click"


@pytest.mark.parametrize("path", sorted((ROOT / "echosdk" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_a_command_loads_the_library_only_when_it_is_called(path):
    """Nothing but click and what is light is imported at the top of a command's file."""
    light = {"cli", "errors", "interfaces"}
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    for node in top:
        assert node.module is not None
        if node.module.startswith("echosdk"):
            assert node.module.split(".")[1] in light, f"{path}:{node.lineno}: imports {node.module} at the top"


def test_every_contract_and_each_of_its_methods_says_what_it_does():
    silent = []
    for node in ast.parse((ROOT / "echosdk" / "interfaces.py").read_text()).body:
        if isinstance(node, ast.ClassDef):
            members = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
            silent += [f"{node.name}: {each.name}" for each in (node, *members) if not ast.get_docstring(each)]
    assert silent == []


def test_the_rules_would_find_what_is_wrong():
    """The rules themselves, on names that break them."""
    assert not allowed("errors", "interfaces")
    assert not allowed("registry", "generation")
    assert not allowed("clips", "registry")
    assert not allowed("hookspecs", "bundle")
    assert not allowed("generation", "cli")
    assert allowed("cli", "generation")
    assert allowed("generation", "privacy")
    for word in ("End-Diastole", "end-systolic", "what beats", "EchoNet-Dynamic", "an EF of 55", "LVEF"):
        assert OF_HEARTS.search(word), word
    assert not OF_HEARTS.search("a rejection by the ref of a definition")
    assert not is_public_of_clips("echosdk.clips.video._grey")
    assert not is_public_of_clips("echosdk.registry.Registry")
