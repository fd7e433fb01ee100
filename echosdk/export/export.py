"""Write a generated dataset as a folder of videos with a list, or in the layout of a data source that can write."""

from __future__ import annotations

import csv
import io
import uuid
from typing import Any

import fsspec

from echosdk.errors import InputError
from echosdk.export.samples import Generated, samples
from echosdk.generation.files import Folder
from echosdk.plugin_set import open_layout, parse_source
from echosdk.registry import Registry, choose

FOLDER = "folder"
CARD = "README.md"
LIST = "videos.csv"


def export(out: str, format: str, to: str, registry: Registry) -> dict[str, int]:
    """Write the dataset `out` to the new folder `to` (paths or fsspec URLs); return how many videos each split has.

    `format` is `folder`, in which every video is the dataset's own file, byte for byte; or `NAME[?key=value&...]`, the
    layout of a data source that can write, as `echosdk data export` takes it. The dataset's card goes along, and with
    it a warning that it may carry. Raises `InputError` where `to` holds anything, `DatasetError` for a damaged shard.
    """
    source = Generated.at(out)
    filesystem, path = fsspec.core.url_to_fs(to.rstrip("/"))
    if filesystem.exists(path) and (not filesystem.isdir(path) or filesystem.ls(path, detail=False)):
        raise InputError(f"{to}: not empty; give a new folder, nothing is overwritten")
    card = source.folder.read(CARD)
    if format == FOLDER:
        return _write_folder(source, card, filesystem, path)
    if parse_source(format)[0] not in (known := registry.names("data_source")):
        raise InputError(f"--to {format}: no such format; {choose(format, [FOLDER, *known])}")
    counts = open_layout(registry, to, format, "--to").write(source)
    Folder.at(to).write(CARD, card)
    return {str(split): number for split, number in counts.items()}


def _write_folder(source: Generated, card: bytes, filesystem: Any, path: str) -> dict[str, int]:
    """Write `SPLIT/KEY.EXTENSION`, a list and the card to a sibling folder, which is renamed at the end."""
    part = f"{path}.{uuid.uuid4().hex[:8]}.part"
    names = [label.name for label in source.labels]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "split", "file", "num_frames", "fps", *names])
    counts: dict[str, int] = {}
    try:
        for sample in samples(source.folder, source.manifest):
            about, split = sample.about, sample.about["split"]
            if split not in counts:
                filesystem.makedirs(f"{part}/{split}", exist_ok=True)
            counts[split] = counts.get(split, 0) + 1
            file = f"{split}/{sample.key}.{sample.extension}"
            filesystem.pipe_file(f"{part}/{file}", sample.video)
            labels = [about["labels"][name] for name in names]
            writer.writerow([sample.key, split, file, about["num_frames"], about["fps"], *labels])
        filesystem.pipe_file(f"{part}/{LIST}", text.getvalue().encode())
        filesystem.pipe_file(f"{part}/{CARD}", card)
        if filesystem.exists(path):
            filesystem.rmdir(path)  # empty: a rename onto it would land inside
        filesystem.mv(part, path, recursive=True)
    finally:
        if filesystem.exists(part):
            filesystem.rm(part, recursive=True)
    return counts
