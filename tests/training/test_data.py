"""Several sources at once, and data of which some cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import define, field

from echosdk import Clip, DataError, Label, Registry, TrainingData
from echosdk.generation.generate import Options, generate
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training import stages as stages_module
from echosdk.training.stages import Training, train_bundle

EF = Label(name="EF", unit="%", low=0, high=100)


@define
class Held:
    """A data source of clips in memory."""

    made: list[Clip]
    name: str = "held"
    labels: tuple[Label, ...] = field(default=(EF,))

    def clips(self, split: str) -> Iterator[Clip]:
        return (clip for clip in self.made if clip.split == split)

    def fingerprint(self) -> str:
        return self.name


def clips(name: str, count: int, size: int = 32, length: int = 10) -> list[Clip]:
    """Make `count` training clips and two to validate with; the patients are called alike in every source."""

    def frames(i: int) -> Any:
        return np.random.default_rng(i).integers(0, 255, (length, size, size), np.uint8)

    return [
        Clip(
            id=f"{name}{i}", group=f"p{i}", split="train" if i < count else "val", fps=16, labels={"EF": 40.0 + i},
            load=lambda i=i: frames(i),
        )
        for i in range(count + 2)
    ]  # fmt: skip


def broken(clip: Clip) -> Clip:
    def load() -> Any:
        raise DataError(f"{clip.id}.avi: the video is cut short (3 of 9 bytes); copy it again")

    return attrs.evolve(clip, load=load)


def training(registry: Registry, folder: Path, source: Any, *more: Any, **fields: Any) -> Training:
    return Training(
        plugin_set=resolve(registry, PluginSet.find("default-tiny", registry)),
        registry=registry,
        source=source,
        source_name="phantom:/data/secret",
        more=tuple((other, f"phantom:/data/{other.name}") for other in more),
        out=folder / "bundle",
        work=folder / "work",
        **fields,
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, TrainingData]:
    """What each kind was given to learn from."""
    given: dict[str, TrainingData] = {}
    original = stages_module._stage

    def stage(bundle: Any, kind: str, component: Any, data: TrainingData, training: Any) -> Any:
        given[kind] = data
        return original(bundle, kind, component, data, training)

    monkeypatch.setattr(stages_module, "_stage", stage)
    return given


def test_encoder_and_animator_learn_from_all_sources_and_the_rest_from_the_first(
    seen: dict[str, TrainingData], registry: Registry, tmp_path: Path
) -> None:
    first, second = Held(clips("a", 4)), Held(clips("b", 3), "other")
    bundle = train_bundle(training(registry, tmp_path, first, second))
    for kind in ("encoder", "video_animator"):
        assert [clip.id for clip in seen[kind].train] == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]
        assert [clip.id for clip in seen[kind].val] == ["a4", "a5", "b3", "b4"]
        assert len({clip.group for clip in (*seen[kind].train, *seen[kind].val)}) == 11  # p0 of a is not p0 of b
    for kind in ("image_prior", "privacy_filter", "downstream_validator"):
        assert [clip.id for clip in seen[kind].train] == ["a0", "a1", "a2", "a3"]
    train, holdout, _ = bundle.references()
    assert (len(set(train.groups)), len(set(holdout.groups))) == (4, 2)
    assert bundle.manifest.data["train_clips"] == 4
    assert {key: bundle.manifest.data["also"]["2"][key] for key in ("source", "fingerprint", "train_clips")} == {
        "source": "phantom", "fingerprint": "other", "train_clips": 3,
    }  # fmt: skip
    assert "secret" not in (tmp_path / "bundle" / "bundle.json").read_text()

    options = Options(
        plugin_set="default-tiny", bundle=str(bundle.folder), num_videos=2, num_frames=4, privacy_filter=False
    )  # with two held-out patients tau is whatever the machine's rounding makes it
    generate(str(tmp_path / "out"), options=options, registry=registry)
    assert "fingerprint" not in json.dumps(json.loads((tmp_path / "out" / "dataset.json").read_text())["trained_on"])
    assert "; the encoder and the video animator also on `phantom`: 3 clips of 3 patients" in (tmp_path / "out" / "README.md").read_text()
    assert "also on phantom" in (tmp_path / "out" / "preview.html").read_text()


def test_a_bundle_of_two_sources_is_not_gone_on_with_one(registry: Registry, tmp_path: Path) -> None:
    first, second = Held(clips("a", 4)), Held(clips("b", 3), "other")
    train_bundle(training(registry, tmp_path, first, second, stages=("encoder",)))
    lines: list[str] = []
    train_bundle(training(registry, tmp_path, first, second, stages=("encoder",), report=lines.append))
    assert not [line for line in lines if "training '" in line]
    with pytest.raises(Exception, match="holds a bundle with other data"):
        train_bundle(training(registry, tmp_path, first, stages=("encoder",)))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (Held(clips("b", 3)), "phantom:/data/held: is the same data as phantom:/data/secret; give each source once"),
        (Held(clips("b", 3, size=40), "other"), "phantom:/data/other: frames are (40, 40), those of phantom:/data/secret (32, 32); sources that are trained on together have one size"),
        (Held(clips("b", 0), "other"), "phantom:/data/other: the split 'train' has no clips; training needs train and val"),
        (Held([attrs.evolve(clip, labels={"age": 3.0 + i}) for i, clip in enumerate(clips("b", 3))], "other", (Label(name="age", unit="years", low=0, high=99),)),
         "phantom:/data/other: its labels are age, those of phantom:/data/secret EF; sources that are trained on together have the same"),
    ],
)  # fmt: skip
def test_sources_that_do_not_go_together_are_refused_before_any_training(
    second: Held, says: str, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, Held(clips("a", 4)), second))
    assert str(error.value) == says
    assert not (tmp_path / "bundle").exists()


def test_a_clip_that_cannot_be_read_ends_the_training_unless_it_may_be_skipped(
    registry: Registry, tmp_path: Path
) -> None:
    made = clips("a", 6)
    source = Held([made[0], broken(made[1]), *made[2:]])
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, source, stages=("encoder",)))
    assert str(error.value) == "a1.avi: the video is cut short (3 of 9 bytes); copy it again"

    for attempt in range(2):  # what was skipped is said again where the store is there already
        lines: list[str] = []
        bundle = train_bundle(
            training(registry, tmp_path, source, stages=("encoder",), skip_bad=True, report=lines.append)
        )
        assert [line for line in lines if "cannot be read" in line] == ["data: 1 clips cannot be read: a1"]
        first = ["skipped a1: a1.avi: the video is cut short (3 of 9 bytes); copy it again"]
        assert [line for line in lines if line.startswith("skipped")] == ([] if attempt else first)
    assert bundle.manifest.data["train_clips"] == 5

    with pytest.raises(DataError):  # the store without it is no answer to who wants all
        train_bundle(training(registry, tmp_path, source, stages=("encoder",)))


def test_a_split_of_which_nothing_can_be_read_is_refused(registry: Registry, tmp_path: Path) -> None:
    made = clips("a", 4)
    source = Held([*made[:4], *(broken(clip) for clip in made[4:])])
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, source, stages=("encoder",), skip_bad=True))
    assert str(error.value) == "phantom:/data/secret: no clip of the split 'val' can be read; training needs train and val"


@define
class Tolerant(Held):
    """A source that finds some of its videos missing, and does without them where it is told to."""

    missing: tuple[str, ...] = ()
    report: Any = None

    def clips(self, split: str) -> Iterator[Clip]:
        for clip in self.made:
            if clip.id in self.missing and self.report is None:
                raise DataError(f"{clip.id}: no video; add it, or remove the row")
            if clip.id in self.missing:
                self.report(f"skipped {clip.id}: list.csv: row 3: no video")
            elif clip.split == split:
                yield clip

    def skipping(self, report: Any) -> Tolerant:
        return attrs.evolve(self, report=report)


def of_test_split(clip: Clip, group: str) -> Clip:
    return attrs.evolve(clip, split="test", group=group)


def test_the_total_of_what_is_skipped_counts_and_lists_what_the_source_itself_leaves_out(
    registry: Registry, tmp_path: Path
) -> None:
    made, other = clips("a", 6), clips("b", 3)
    first = Tolerant([made[0], broken(made[1]), *made[2:]], missing=("a2",))
    second = Tolerant(other, "other", missing=("b4",))
    lines: list[str] = []
    train_bundle(training(registry, tmp_path, first, second, stages=("encoder",), skip_bad=True, report=lines.append))
    assert [line for line in lines if "cannot be read" in line] == [
        "data: 2 clips cannot be read: a2, a1",
        "data: 1 clips of source 2 (phantom) cannot be read: b4",
    ]


def test_what_is_skipped_does_not_end_a_training_when_the_encoder_is_there(registry: Registry, tmp_path: Path) -> None:
    """References are of the source that leaves out what is missing; of the test split a patient's next clip is taken."""
    made, more = clips("a", 6), clips("t", 4)
    tested = [
        of_test_split(broken(more[0]), "q0"),
        of_test_split(more[1], "q1"),
        of_test_split(broken(more[2]), "q1"),
        of_test_split(more[3], "q2"),
    ]
    source = Tolerant([*made, *tested], missing=("a1", "t3"))
    lines: list[str] = []
    wanted = training(
        registry, tmp_path, source, stages=("encoder", "image_prior"), skip_bad=True, report=lines.append
    )
    bundle = train_bundle(wanted)
    assert set(bundle.manifest.stages) == {"encoder", "image_prior"}
    assert bundle.manifest.data["train_clips"] == 5
    strangers = bundle.strangers()
    assert strangers is not None
    assert len(strangers) == 1  # of q1; of q0 nothing can be read, and q2 is missing
    cut_short = "{0}.avi: the video is cut short (3 of 9 bytes); copy it again"
    assert [line for line in lines if line.startswith("skipped t") and "no video" not in line] == [
        f"skipped {name}: {cut_short.format(name)}" for name in ("t0", "t2")
    ]


def test_an_unreadable_video_of_the_test_split_ends_the_training_where_none_may_be_skipped(
    registry: Registry, tmp_path: Path
) -> None:
    source = Held([*clips("a", 6), of_test_split(broken(clips("t", 0)[0]), "q0")])
    with pytest.raises(DataError, match=r"t0\.avi: the video is cut short"):
        train_bundle(training(registry, tmp_path, source, stages=("encoder", "image_prior")))


def test_fewer_clips_than_a_batch_are_refused_also_where_some_cannot_be_read(
    registry: Registry, tmp_path: Path
) -> None:
    made = clips("a", 4)
    source = Held([broken(made[0]), *made[1:]])
    with pytest.raises(DataError) as error:
        train_bundle(training(registry, tmp_path, source, skip_bad=True))
    assert str(error.value) == (
        "encoder: 3 training clips are fewer than a batch of 4; give more, or --set encoder.recipe.batch_size=3"
    )
    assert not (tmp_path / "bundle").exists()


def test_on_the_command_line_sources_are_repeated_and_what_is_skipped_is_listed(
    run_echosdk: Any, registry: Registry, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        source = open_source(registry, f"phantom?patients=16&frames=12&size=32&seed={seed}")
        open_source(registry, f"echonet-dynamic:{tmp_path / name}").write(source)
    video = next((tmp_path / "b" / "Videos").iterdir())
    video.unlink()
    told = run_echosdk(
        "train", "--plugin-set", "default-tiny", "--data", f"echonet-dynamic:{tmp_path / 'a'}", "--data",
        f"echonet-dynamic:{tmp_path / 'b'}", "--skip-bad", "--stage", "encoder", "--out", str(tmp_path / "bundle"),
    )  # fmt: skip
    assert told.status == 0, told.err
    assert f"skipped {video.stem}: " in told.err
    assert "data: reading the train split of source 2 (echonet-dynamic) at 16 frames/s" in told.err
    assert set(json.loads((tmp_path / "bundle" / "bundle.json").read_text())["data"]["also"]) == {"2"}


def test_encoding_says_how_fast_it_was(registry: Registry, tmp_path: Path) -> None:
    lines: list[str] = []
    train_bundle(training(registry, tmp_path, Held(clips("a", 4)), stages=("encoder", "image_prior"), report=lines.append))
    assert [line.partition(" at ")[0] for line in lines if line.endswith("frames/s") and line.startswith("latents")] == [
        "latents: 40 frames", "latents: 20 frames",
    ]  # fmt: skip


