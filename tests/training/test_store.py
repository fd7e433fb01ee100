"""The cache of clips: what is read is what was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import echosdk.clips.store as module
from echosdk import Clip, DataError
from echosdk.clips.store import open_store, pixel_clips, store_fingerprint, write_store


def arrays(dtype: str = "uint8", shape: tuple[int, ...] = (6, 5), seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return [(random.random((length, *shape)) * 200).astype(dtype) for length in (4, 1, 9, 3, 7)]


def clip(i: int, frames: Any, fps: float = 10.0, **more: Any) -> Clip:
    return Clip(id=f"c{i}", group=f"g{i}", split="train", fps=fps, labels={"EF": 50.5 + i}, load=lambda: frames, **more)


def items(held: list[Any]) -> Callable[[Collection[str]], Iterator[Any]]:
    return lambda there: ((clip(i, frames), frames) for i, frames in enumerate(held) if f"c{i}" not in there)


@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (6, 5)), ("uint8", (6, 5, 3)), ("float16", (4, 3, 3))])
def test_any_part_of_any_clip_is_what_was_written(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLIPS_A_SHARD", 2)  # so that the clips lie in several shards
    held = arrays(dtype, shape)
    store = write_store(tmp_path / "s", "one", items(held))
    assert len(list((tmp_path / "s").glob("*.tar"))) == 3
    assert store.shape == shape
    for stored, frames in zip(store, held, strict=True):
        assert stored.num_frames == len(frames)
        for start, stop in [(0, None), (0, 1), (1, 3), (2, 100), (-2, None), (5, 5)]:
            part = stored.read(start, stop)
            np.testing.assert_array_equal(part, frames[start:stop])
            assert part.dtype == (np.float32 if dtype == "float16" else np.uint8)
    about = [(c.id, c.group, c.labels) for c in open_store(tmp_path / "s")]
    assert about == [(f"c{i}", f"g{i}", {"EF": 50.5 + i}) for i in range(5)]


def test_what_is_read_may_be_changed_and_the_store_does_not_notice(tmp_path: Path) -> None:
    held = arrays()
    store = write_store(tmp_path / "s", "one", items(held))
    store[0].read()[:] = 0
    np.testing.assert_array_equal(store[0].read(), held[0])


def test_a_store_is_written_again_when_its_fingerprint_changes_and_only_then(tmp_path: Path) -> None:
    def never(there: Collection[str]) -> Iterator[Any]:
        raise AssertionError("the store was written again")

    write_store(tmp_path / "s", "one", items(arrays()))
    np.testing.assert_array_equal(write_store(tmp_path / "s", "one", never)[2].read(), arrays()[2])
    other = arrays(seed=1)
    np.testing.assert_array_equal(write_store(tmp_path / "s", "two", items(other))[2].read(), other[2])
    write_store(tmp_path / "s", "two", never)
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_writing_that_broke_off_goes_on_after_the_last_whole_shard(
    whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLIPS_A_SHARD", 2)
    told: list[set[str]] = []

    def breaks(there: Collection[str]) -> Iterator[Any]:
        yield from list(items(arrays())(there))[: 2 * whole + 1]
        raise KeyboardInterrupt

    def goes_on(there: Collection[str]) -> Iterator[Any]:
        told.append(set(there))
        return items(arrays())(there)

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", "one", breaks)
    assert not (tmp_path / "s").exists()
    assert len(write_store(tmp_path / "s", "one", goes_on)) == 5
    assert told == [{f"c{i}" for i in range(2 * whole)}]
    write_store(tmp_path / "at once", "one", items(arrays()))
    assert sorted(os.listdir(tmp_path)) == ["at once", "s"]
    names = sorted(os.listdir(tmp_path / "s"))
    assert names == sorted(os.listdir(tmp_path / "at once")) == [*(f"00000{i}.tar" for i in range(3)), "index.json"]
    assert all((tmp_path / "s" / n).read_bytes() == (tmp_path / "at once" / n).read_bytes() for n in names)
    assert all((tmp_path / "s" / name).stat().st_mode & 0o77 == 0 for name in names)


def test_a_writing_of_something_else_that_broke_off_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIPS_A_SHARD", 2)

    def breaks(there: Collection[str]) -> Iterator[Any]:
        yield from list(items(arrays())(there))[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", "one", breaks)
    other = arrays(seed=1)
    stored = write_store(tmp_path / "s", "two", items(other))
    for found, frames in zip(stored, other, strict=True):
        np.testing.assert_array_equal(found.read(), frames)


@pytest.mark.parametrize("at", range(1, 12))
def test_a_store_that_is_whole_survives_a_kill_at_any_moment_of_its_renaming(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it replaces another; and half of that one never passes for a store."""

    def nothing_left(there: Collection[str]) -> Iterator[Any]:
        assert there == {f"c{i}" for i in range(5)}
        return iter(())

    monkeypatch.setattr(module, "CLIPS_A_SHARD", 2)
    write_store(tmp_path / "s", "one", items(arrays()))
    calls, whole = 0, False

    def killed_at(real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            if whole:
                calls += 1
                if calls - 1 == at:
                    raise KeyboardInterrupt
            return real(*arguments, **more)

        return call

    def then_whole(there: Collection[str]) -> Iterator[Any]:
        nonlocal whole
        yield from items(arrays(seed=1))(there)
        whole = True

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        for name in ("chmod", "rename", "unlink"):
            patch.setattr(Path, name, killed_at(getattr(Path, name)))
        patch.setattr(module.shutil, "rmtree", killed_at(module.shutil.rmtree))
        patch.setattr(os, "unlink", killed_at(os.unlink))  # in the middle of a tree that is removed
        write_store(tmp_path / "s", "two", then_whole)
    index = tmp_path / "s" / module.INDEX
    if index.is_file() and '"one"' in index.read_text():
        assert len(open_store(tmp_path / "s")) == 5
    if at < 7:
        assert calls == at + 1  # call 0 gives the last shard its name
    stored = write_store(tmp_path / "s", "two", nothing_left)
    for found, frames in zip(stored, arrays(seed=1), strict=True):
        np.testing.assert_array_equal(found.read(), frames)


def test_fingerprints_differ_with_whatever_decides_the_content() -> None:
    parts = [("pixels", "a", 16.0), ("pixels", "b", 16.0), ("pixels", "a", 32.0), ("latents", "a", 16.0)]
    assert len({store_fingerprint(*p) for p in parts}) == 4
    assert store_fingerprint({"a": 1, "b": 2}) == store_fingerprint({"b": 2, "a": 1})


def test_clips_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        write_store(tmp_path / "s", "one", items([*arrays(), np.zeros((2, 7, 5), np.uint8)]))
    assert str(error.value) == "c5: frames are (7, 5), those of the clips before are (6, 5)"


def test_clips_are_resampled_and_keep_their_duration() -> None:
    frames = np.arange(20, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    ((_, half),) = pixel_clips([clip(0, frames, fps=20.0)], 10.0)
    np.testing.assert_array_equal(half[:, 0, 0], np.arange(0, 20, 2))


def test_sixteen_bits_want_a_window_and_other_frames_are_refused() -> None:
    deep = np.full((2, 4, 4), 300, np.uint16)
    ((_, shown),) = pixel_clips([clip(0, deep, window=(200, 400))], 10.0)
    assert shown.dtype == np.uint8
    assert set(shown.flatten()) <= {127, 128}
    with pytest.raises(DataError, match="c0: 16-bit frames need a declared window"):
        list(pixel_clips([clip(0, deep)], 10.0))
    with pytest.raises(DataError, match="c0: wants uint8 frames"):
        list(pixel_clips([clip(0, deep.astype(float))], 10.0))
