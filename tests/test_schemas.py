"""The JSON Schemas of the documentation fit what the program writes, and nothing else."""

from __future__ import annotations

import copy
import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.report.scorecard import make_card

SCHEMAS = Path(__file__).parents[1] / "docs/reference/schemas"


def schema(name: str) -> Draft202012Validator:
    """Return the validator of a schema that is one itself."""
    plain = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(plain)
    return Draft202012Validator(plain)


@pytest.fixture(scope="module")
def dataset(trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    options = Options(plugin_set="default-tiny", bundle=str(trained_tiny.folder), num_videos=2, num_frames=4)
    generate(str(folder), options=options, registry=registry)
    return folder


@pytest.fixture(scope="module")
def plain(dataset: Path, trained_tiny: Bundle, registry: Registry) -> dict[str, Any]:
    """One of each format, as the program wrote it."""
    with tarfile.open(dataset / "train-000000.tar") as tar:
        (name, *_) = (name for name in tar.getnames() if name.endswith(".json"))
        sample = json.load(tar.extractfile(name))  # type: ignore[arg-type]
    return {
        "bundle": json.loads((trained_tiny.folder / "bundle.json").read_text()),
        "dataset": json.loads((dataset / "dataset.json").read_text()),
        "sample": sample,
        "plugin-set": tomllib.loads(Path(registry.resource("plugin_set", "default").location).read_text()),
        "report": make_card(Folder.at(str(dataset))),  # with every part it is tested where one is made: test_protocol
    }


def test_there_is_a_schema_of_every_format(plain: dict[str, Any]) -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{name}.schema.json" for name in plain}


@pytest.mark.parametrize("name", ["bundle", "dataset", "sample", "plugin-set", "report"])
def test_a_schema_fits_what_is_written(name: str, plain: dict[str, Any]) -> None:
    schema(name).validate(plain[name])


def test_the_schemas_fit_what_the_package_carries(registry: Registry) -> None:
    for name in registry.names("plugin_set"):
        schema("plugin-set").validate(tomllib.loads(Path(registry.resource("plugin_set", name).location).read_text()))
    for name in registry.names("bundle"):
        schema("bundle").validate(json.loads((Path(registry.resource("bundle", name).location) / "bundle.json").read_text()))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *[("bundle", key) for key in ("schema", "plugin_set", "labels", "fps", "frame_shape", "stages", "references")],
        *[("dataset", key) for key in ("schema", "plan", "counts", "rejected", "labels", "shards", "files")],
        *[("sample", key) for key in ("labels", "fps", "num_frames", "split")],
        *[("plugin-set", key) for key in ("fps", "bundle", "encoder", "stitcher")],
        *[("report", key) for key in ("schema", "verdicts", "validation", "audit", "evaluation", "dataset", "seconds")],
    ],
)
def test_a_schema_refuses_a_key_of_the_wrong_type_and_one_it_does_not_know(
    name: str, key: str, plain: dict[str, Any]
) -> None:
    wrong = copy.deepcopy(plain[name])
    wrong[key] = True
    assert not schema(name).is_valid(wrong)
    assert not schema(name).is_valid({**plain[name], f"{key}_": 1})
