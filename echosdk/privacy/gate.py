"""The privacy gate: a calibrated filter, asked about every still and every finished video. It fails closed."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from attrs import define, field

from echosdk.abilities import CopyCalibration, Embedding
from echosdk.devices import out_of_memory
from echosdk.errors import PrivacyError
from echosdk.interfaces import Encoder, PrivacyFilter, References, Verdict
from echosdk.privacy.policy import most
from echosdk.privacy.statistics import Figure, share
from echosdk.privacy.windows import Windows
from echosdk.seeding import generator

IMAGE_BATCH = 32
SPACES = ("latent", "image")
STRANGERS = "innocents.still"
MOST_STRANGERS = most("innocents.*")
FEW = 20
"""Strangers, of whom most may be rejected by chance."""
ROUNDING = 1e-5  # of a distance that the filter compared with tau in another precision


@define
class Gate:
    """Judge stills by the filter's own tau, and videos, window by window, by the smallest distance of their frames.

    The more frames, the smaller is the smallest distance: a window has a tau of its own, calibrated on that minimum
    over as many frames of held-out videos, at the rate at which the filter rejects held-out stills. A video is kept
    whose every window of `window` frames is far enough; one that is shorter is one window. `name` says whose filter it
    is, for messages.
    """

    name: str
    _filter: PrivacyFilter
    _encoder: Encoder
    window: int | None = None
    _still_tau: float = field(init=False, default=math.nan)
    _windows: Windows | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        space = self._guard(lambda: getattr(self._filter, "space", None))
        if space not in SPACES:
            raise PrivacyError(f"{self.name}: space is {space!r}; a filter says whether it wants 'latent' or 'image'")

    def calibrate(self, train: References, holdout: References, holdout_video: torch.Tensor, key: bytes) -> None:
        """Calibrate the filter on one held-out frame for each patient, and the video's tau on whole held-out videos."""
        noise = generator("calibrate", key=key)
        rows: dict[str, list[int]] = {}
        for row, group in enumerate(holdout.groups):
            rows.setdefault(group, []).append(row)
        chosen = [own[int(torch.randint(len(own), (), generator=noise))] for own in rows.values()]
        innocents = References(items=self._seen(holdout.items[chosen]), groups=[holdout.groups[row] for row in chosen])
        shown = train if self._filter.space == "latent" else _with(train, self._seen(train.items))
        self._guard(lambda: self._filter.calibrate(shown, innocents, noise))
        if self._guard(lambda: isinstance(self._filter, CopyCalibration)):
            whole = _with(holdout, self._seen(holdout.items))
            self._guard(lambda: cast(CopyCalibration, self._filter).calibrate_copies(whole, noise))
        verdict = self._judge(holdout.items)
        self._still_tau = verdict.tau
        # No filter's parameters are known here: the rate is what the filter does with innocent stills
        rate = 1 - verdict.keep[chosen].double().mean().item()
        distance = verdict.distance.double()
        videos = [distance[holdout_video == video] for video in holdout_video.unique()]
        self._windows = Windows.of(videos, rate, noise)

    def thresholds(self, num_frames: int) -> dict[str, float]:
        """Return the tau of a still, and of a window of a video of so many frames: private.

        Raises `PrivacyError` where held-out videos are too short to say.
        """
        if self._windows is None:
            raise PrivacyError("the gate judged before it was calibrated")
        return {"still": self._still_tau, "video": self._windows.tau(min(num_frames, self.window or num_frames))}

    def measure(self, strangers: torch.Tensor) -> Figure:
        """Return the share of patients of the test split that are rejected, one still `n c h w` each.

        Raises `PrivacyError` where it is more than echosdk's policy allows; of fewer than `FEW`, beyond chance.
        """
        rejected = int((~self._judge(strangers).keep).sum()) if len(strangers) else 0
        figure = share(STRANGERS, rejected, len(strangers), better="lower", what="patients of the test split")
        low, high = figure.interval_95 or (0.0, 1.0)
        told = low if len(strangers) < FEW else rejected / len(strangers)
        if told > MOST_STRANGERS:
            raise PrivacyError(
                f"{self.name}: rejects {rejected} of {len(strangers)} patients of the test split (95 % interval "
                f"{low:.0%} to {high:.0%}), more than the policy's {MOST_STRANGERS:.0%}: what it keeps is no fair "
                "choice; train it longer, or let it ask less"
            )
        return figure

    def judge_stills(self, stills: torch.Tensor) -> Verdict:
        """Judge stills `n c h w`, each by itself."""
        return self._judge(stills)

    def judge_videos(self, videos: torch.Tensor) -> Verdict:
        """Judge videos `b t c h w`, each by itself, by the smallest distance of their frames in every window.

        A window is rejected where its smallest distance is, and so the video's smallest distance decides. A video is
        rejected, too, where a frame is that the filter rejects though it is not nearer than its tau.
        """
        tau = self.thresholds(videos.shape[1])["video"]
        verdicts = [self._judge(video) for video in videos]
        smallest = torch.stack([verdict.distance.amin() for verdict in verdicts])
        # A filter may reject what is not near, for reasons of its own; then no window's tau says how often
        refused = torch.stack([(~verdict.keep & (verdict.distance >= verdict.tau)).any() for verdict in verdicts])
        return Verdict(keep=(smallest >= tau) & ~refused, distance=smallest, tau=tau)

    @property
    def has_features(self) -> bool:
        """Say whether the filter tells the features by which it compares."""
        return bool(self._guard(lambda: isinstance(self._filter, Embedding)))

    def features(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the features `n d` by which the filter compares. Raises `PrivacyError` where it tells none."""
        if not self.has_features:
            raise PrivacyError(f"{self.name}: tells no features; it has no embed()")
        parts = [self._seen(part) for part in latents.split(IMAGE_BATCH)]
        embed = cast(Embedding, self._filter).embed
        return torch.cat([self._guard(lambda part=part: embed(part.clone())) for part in parts]).cpu()

    def _judge(self, latents: torch.Tensor) -> Verdict:
        """Ask about latents: in parts where the filter wants images, of which a whole video's are many."""
        parts = latents.split(IMAGE_BATCH) if self._filter.space == "image" else (latents,)
        verdicts = [self._ask(self._seen(part)) for part in parts]
        return Verdict(
            keep=torch.cat([verdict.keep for verdict in verdicts]),
            distance=torch.cat([verdict.distance for verdict in verdicts]),
            tau=verdicts[0].tau,
        )

    def _seen(self, latents: torch.Tensor) -> torch.Tensor:
        if self._filter.space == "latent":
            return latents
        return torch.cat([self._encoder.decode(part).cpu() for part in latents.split(IMAGE_BATCH)])

    def _ask(self, items: torch.Tensor) -> Verdict:
        if not torch.isfinite(items).all():
            raise PrivacyError(f"what {self.name} is to judge holds values that are not numbers: the model made them")
        shown = items.clone()  # its own: what a filter does to it, now or later, changes nothing that is published
        verdict = self._guard(lambda: self._filter.judge(shown))
        if not isinstance(verdict, Verdict):
            raise PrivacyError(f"{self.name}: judge() returned {type(verdict).__name__}, not echosdk.Verdict")
        if not torch.equal(shown, items):
            raise PrivacyError(f"{self.name}: judge() changed the stills that it was shown")
        for what, tensor in (("keep", verdict.keep), ("distance", verdict.distance)):
            if not isinstance(tensor, torch.Tensor):
                raise PrivacyError(f"{self.name}: {what} is {type(tensor).__name__}, not torch.Tensor")
            if tuple(tensor.shape) != (len(items),):
                raise PrivacyError(
                    f"{self.name}: judged {len(items)} items, but {what} has shape {tuple(tensor.shape)}, "
                    f"not {(len(items),)}"
                )
        if verdict.keep.dtype != torch.bool:
            raise PrivacyError(f"{self.name}: keep is {verdict.keep.dtype}, not bool")
        if not _is_plain(verdict.distance):
            raise PrivacyError(f"{self.name}: distance is {verdict.distance.dtype}; it is to be a plain float tensor")
        if not isinstance(verdict.tau, int | float) or isinstance(verdict.tau, bool):
            raise PrivacyError(f"{self.name}: tau is {type(verdict.tau).__name__}, not float")
        if not torch.isfinite(verdict.distance).all() or not math.isfinite(verdict.tau):
            raise PrivacyError(f"{self.name}: a distance or tau is not a number; nothing is kept on such a verdict")
        near = verdict.distance.double() < verdict.tau - ROUNDING * max(1.0, abs(verdict.tau))
        if (verdict.keep.cpu() & near.cpu()).any():
            raise PrivacyError(f"{self.name}: keeps an item that is nearer than its own tau; nothing is kept on that")
        return verdict

    def _guard(self, call: Any) -> Any:
        try:
            return call()
        except PrivacyError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's filter: whatever it raises closes the gate
            if out_of_memory(error):
                raise
            raise PrivacyError(f"{self.name}: the filter failed: {type(error).__name__}: {error}") from error


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type != "meta"


def _with(references: References, items: torch.Tensor) -> References:
    return References(items=items, groups=references.groups)
