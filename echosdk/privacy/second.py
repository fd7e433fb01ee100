"""A second network to compare records in: the filter's kind, trained with another seed on other patients.

What a filter let pass because its own network cannot see it, that network's features cannot show either.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from echosdk.abilities import Embedding
from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.errors import InputError
from echosdk.integrity import private_folder, write_whole
from echosdk.interfaces import References, Run, Trainable, TrainingData
from echosdk.registry import Registry
from echosdk.seeding import seed_of

ABOUT = "second-network.json"
TRAINED_ON = 0.8
"""The share of the held-out patients on whom it is trained; the others are its validation split."""


def second_network(
    folder: Path,
    bundle: Bundle,
    registry: Registry,
    holdout: tuple[References, torch.Tensor],
    seed: int,
    device: str,
    report: Callable[[str], None],
) -> Embedding:
    """Return the second network that lies in a private folder, or train it there: on the bundle's held-out patients.

    Nothing of the bundle was trained on them, and no patient of the test split is among them. Raises `InputError` where
    the filter learns nothing or tells no features, and where the folder holds another bundle's.
    """
    name = bundle.plugin_set.choices["privacy_filter"].use
    network = bundle.plugin_set.build(registry, "privacy_filter")
    if not isinstance(network, Trainable) or not isinstance(network, Embedding) or _space(network) != "latent":
        raise InputError(f"--second-network: {name} is no network on latents that tells its features; leave it out")
    wanted = {"filter": name, "bundle": bundle.private_digest, "encoder": bundle.manifest.stages["encoder"].public,
              "seed": seed}  # fmt: skip
    about, public, private = folder / ABOUT, folder / "public", folder / "private"
    if about.is_file():
        if json.loads(about.read_text()) != wanted:
            raise InputError(f"--second-network {folder}: holds that of another bundle or seed; say another folder")
        network.load(public, private)
        return network
    if folder.is_dir() and any(path.name != "work" for path in folder.iterdir()):
        raise InputError(f"--second-network {folder}: is not empty and holds no second network; say another folder")
    private_folder(folder)
    data = _data(bundle, holdout, seed)
    report(f"second network: training {name!r} on {len(data.train)} held-out patients")
    run = Run(
        folder=private_folder(folder / "work"),
        seed=seed_of("second network", seed) % 2**31,
        device=device,
        report=lambda line: report(f"second network: {line}"),
    )
    torch.manual_seed(run.seed)  # the network's first weights
    network.fit(data, run)
    for part in (public, private):
        private_folder(part)
    network.save(public, private)
    for path in (*public.iterdir(), *private.iterdir()):
        path.chmod(0o600)
    write_whole(about, json.dumps(wanted).encode(), mode=0o600)
    network.load(public, private)
    return network


def _data(bundle: Bundle, holdout: tuple[References, torch.Tensor], seed: int) -> TrainingData:
    """Return the held-out videos' latents as training data; labels are not known, and a filter needs none."""
    references, videos = holdout
    clips = [
        ArrayClip(
            id=str(int(video)),
            group=references.groups[int(torch.nonzero(videos == video)[0])],
            labels={},
            frames=references.items[videos == video].numpy(),
        )
        for video in videos.unique()
    ]
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist()
    # One video a patient; where they are few, each side still gets what pairs need
    count = min(max(2, round(TRAINED_ON * len(clips))), max(1, len(clips) - 2))
    chosen = [clips[place] for place in order]
    train, val = (chosen[:count], chosen[count:]) if len(clips) >= 4 else (chosen, chosen)
    return TrainingData(
        train=train,
        val=val,
        labels=bundle.manifest.labels,
        fps=bundle.manifest.fps,
        shape=tuple(references.items.shape[1:]),
    )


def _space(network: Any) -> str:
    return str(getattr(network, "space", ""))
