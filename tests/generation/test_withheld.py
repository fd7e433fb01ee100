"""A parameter that names a place is not published; whoever makes the dataset again says it again."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from attrs import define

from echosdk import InputError, PlanError, References, Registry, Verdict
from echosdk.bundle import Bundle
from echosdk.generation import generate as module
from echosdk.generation.files import Folder
from echosdk.generation.generate import generate, make_plan
from echosdk.generation.redo import merge_again, repair, reproduce
from echosdk.published import last_part, published, without_secrets

LABELLED = {
    "use": ("downstream_validator=category-classifier",),
    "set_": ("downstream_validator.label=/home/of-z/labels",),
}


def quiet(line: str) -> None: ...


@define(slots=False)
class Listed:
    """Keep whatever is as far as a file says."""

    path: str
    space = "latent"

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
        self.tau = float(Path(self.path).read_text())

    def judge(self, stills: torch.Tensor) -> Verdict:
        distance = torch.ones(len(stills))
        return Verdict(keep=distance >= self.tau, distance=distance, tau=self.tau)


@define
class Listing:
    """A dataset that was made with a file, the file, and what else is needed to make it again."""

    out: Path
    file: Path
    options: Any
    registry: Registry

    def folder(self) -> Folder:
        return Folder.at(str(self.out))

    def again(self) -> dict[str, Any]:
        return {"bundle": str(self.options.bundle), "registry": self.registry}

    def saying(self, path: Path) -> dict[str, Any]:
        return {**self.again(), "set_": (f"privacy_filter.path={path}",), "report": quiet}


@pytest.fixture(scope="module")
def made(options: Any, with_filter: Any, tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """Made once; do not change it: take a copy."""
    folder = tmp_path_factory.mktemp("home-of-z")
    file = folder / "limits.txt"
    file.write_text("0.5")
    wanted = attrs.evolve(
        options,
        use=("privacy_filter=strange",),
        set_=(f"privacy_filter.path={file}",),
        splits={"train": 2, "val": 1},
    )
    registry = with_filter(Listed)
    generate(str(folder / "out"), options=wanted, registry=registry)
    return Listing(folder / "out", file, wanted, registry)


@pytest.fixture
def copy(made: Listing, tmp_path: Path) -> Listing:
    return attrs.evolve(made, out=Path(shutil.copytree(made.out, tmp_path / "copy")))


def test_a_dataset_names_the_file_it_was_made_with_and_not_where_that_lay(made: Listing) -> None:
    for path in made.out.iterdir():
        assert b"home-of-z" not in path.read_bytes(), path.name
    plan = json.loads((made.out / "dataset.json").read_text())["plan"]
    assert plan["plugin_set"]["privacy_filter"]["path"] == "limits.txt"
    assert [*plan["withheld"]] == ["privacy_filter.path"]
    assert "home-of-z" not in repr(make_plan(made.options, made.registry)[0])


def test_the_same_command_goes_on_and_one_with_another_file_is_refused(copy: Listing, made: Listing, digests: Any) -> None:
    for shard in copy.out.glob("val-*"):
        shard.unlink()
    generate(str(copy.out), options=copy.options, registry=copy.registry)
    assert digests(copy.out) == digests(made.out)
    other = copy.out.parent / made.file.name  # of the same name
    other.write_text("0.4")
    wanted = attrs.evolve(copy.options, set_=(f"privacy_filter.path={other}",))
    with pytest.raises(PlanError, match=r"holds a dataset of another plan \(it differs in withheld\)"):
        generate(str(copy.out), options=wanted, registry=copy.registry)


def test_joining_needs_no_file_and_making_again_asks_for_it(copy: Listing, made: Listing, digests: Any) -> None:
    (copy.out / "dataset.json").unlink()
    merge_again(copy.folder(), **copy.again())
    (copy.out / "val-000000.tar").write_bytes(b"")
    before = digests(copy.out)
    for call in (reproduce, repair):
        with pytest.raises(InputError) as error:
            call(copy.folder(), report=quiet, **copy.again())
        assert str(error.value) == (
            "a dataset does not tell where files lie, and this one was made with some: say it again: "
            "--set privacy_filter.path=VALUE"
        )
    assert digests(copy.out) == before
    moved = copy.out.parent / "moved.txt"
    shutil.copy(made.file, moved)
    assert repair(copy.folder(), **copy.saying(moved)) == ["val-000000"]
    assert digests(copy.out) == digests(made.out)
    assert [one.same for one in reproduce(copy.folder(), shards="0:1", **copy.saying(moved))] == [True]


def test_what_is_said_again_is_what_it_was(copy: Listing) -> None:
    other = copy.out.parent / "other.txt"
    other.write_text("0.4")
    with pytest.raises(InputError) as error:
        reproduce(copy.folder(), **copy.saying(other))
    assert str(error.value) == (
        "--set privacy_filter.path: the dataset was made with another one; say the one that it was made with"
    )
    with pytest.raises(InputError) as error:
        reproduce(copy.folder(), **{**copy.saying(other), "set_": ("image_prior.num_inference_steps=3",)})
    assert str(error.value) == (
        "--set image_prior.num_inference_steps: a dataset is made again with its own values, and only "
        "privacy_filter.path can be said again"
    )


def test_workers_are_given_the_whole_path(
    options: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Travelling:
        def run(self, task: Any, shards: Iterable[int]) -> Iterator[Any]:
            for shard in shards:
                yield pickle.loads(pickle.dumps(task))(shard)

    def load(plan: Any, *rest: Any) -> Any:
        seen.append(plan.whole_plugin_set()["downstream_validator"]["label"])
        return whole(plan, *rest)

    whole, seen = module.Pipeline.load, []
    monkeypatch.setattr(module.Pipeline, "load", load)
    wanted = attrs.evolve(options, **LABELLED, splits={"train": 1})
    manifest = generate(str(tmp_path / "out"), options=wanted, executor=Travelling(), registry=registry)
    assert seen == ["/home/of-z/labels"]
    assert manifest is not None
    assert manifest["plan"]["plugin_set"]["downstream_validator"]["label"] == "labels"


def test_without_a_secret_no_digest_of_a_place_is_published(options: Any, tiny_bundle: Path, registry: Registry) -> None:
    """It could be guessed at."""
    shutil.rmtree(tiny_bundle / "private")
    wanted = attrs.evolve(
        options, bundle=str(tiny_bundle), privacy_filter=False, **LABELLED
    )
    assert make_plan(wanted, registry)[0].public()["withheld"] == {"downstream_validator.label": ""}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://user:secret@host.org/data/bundle.zip?sig=secret", "bundle.zip"),
        ("https://user:secret@host.org/bundle/?sig=secret#secret", "bundle"),
        ("https://user:secret@host.org/?sig=secret", ""),
        ("https://user:secret@host.org", ""),
        ("https://user:sec?ret@host.org/bundle", ""),
        ("zip://secret.csv::https://user:secret@host.org/bundle.zip;secret", "bundle.zip"),
        ("s3://bucket", "bucket"),
        ("s3://secret/bundle", "bundle"),
        ("/home/secret/bundle/", "bundle"),
        ("C:\\secret\\bundle", "bundle"),
        ("echonet-dynamic:/data/secret/bundle?ward=secret", "bundle"),
        ("~", ""),
        ("..", ""),
    ],
)
def test_of_a_place_the_last_part_is_told_and_no_secret(place: str, name: str) -> None:
    assert last_part(place) == name
    assert published({"a": [place, 3], "b": "plain"}) == {"a": [name, 3], "b": "plain"}


def test_a_url_with_a_new_signature_is_the_same_place() -> None:
    assert without_secrets("https://u:p@host/x.zip?sig=1") == without_secrets("https://host/x.zip?sig=2#3")


def test_a_bundles_password_and_signature_are_not_published(
    options: Any, registry: Registry, trained_tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://user:secret@host.org/shared/tiny?sig=secret"
    monkeypatch.setattr(module.Bundle, "open", lambda name, registry=None: trained_tiny)
    plan, _ = make_plan(attrs.evolve(options, bundle=url), registry)
    assert plan.bundle == "tiny"
    assert "secret" not in json.dumps(plan.public())
