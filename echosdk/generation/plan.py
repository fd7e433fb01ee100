"""A plan: everything that decides a dataset's bytes, resolved before the first shard."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import cattrs
from attrs import field, frozen
from attrs.validators import ge, gt, in_

from echosdk.clips.video import VideoFormat
from echosdk.errors import InputError
from echosdk.integrity import file_digest
from echosdk.interfaces import SPLITS
from echosdk.published import places, published, without_secrets

FORMATS = ("mp4", "avi", "mkv", "npy")
LABELS = ("uniform", "empirical")


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    return {split: counts[split] for split in SPLITS if split in counts} | dict(counts)


@frozen(kw_only=True)
class Plan:
    """What is made, from what, and how. `sample` numbers run through train, val and test.

    `digest` is keyed with the bundle's secret and covers its private part: it says whether two plans are the same and
    nothing else. `withheld` names the parameters (`KIND.KEY`) of which `plugin_set` has only what is published, each
    with a keyed digest; `private` has their values, as long as whoever made the plan is there to say them.
    """

    plugin_set: Mapping[str, Any]
    bundle: str
    bundle_digest: str
    counts: Mapping[str, int] = field(converter=_in_order)
    num_frames: int = field(validator=ge(1))
    fps: float = field(validator=gt(0))
    labels: str = field(default="uniform", validator=in_(LABELS))
    label_bins: tuple[Mapping[str, Any], ...] = field(default=(), converter=tuple[Mapping[str, Any], ...])
    seed: int = 0
    shard_size: int = field(default=32, validator=ge(1))
    micro_batch: int = field(default=4, validator=ge(1))
    max_attempts: int = field(default=20, validator=ge(1))
    threads: int = field(default=1, validator=ge(1))
    device: str = "cpu"
    dtype: str = field(default="float32", validator=in_(("float32", "bfloat16", "float16")))
    format: VideoFormat = field(default="mp4", validator=in_(FORMATS))
    privacy_filter: bool = True
    withheld: Mapping[str, str] = field(factory=dict)
    digest: str = ""
    private: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @withheld.validator
    def _are_there(self, _attribute: object, withheld: Mapping[str, str]) -> None:
        for name in withheld:
            kind, _, key = name.partition(".")
            if key not in self.plugin_set.get(kind, ()):
                raise ValueError(f"withheld: {name!r} is no parameter of the plugin set")

    @label_bins.validator
    def _are_drawn_from(self, _attribute: object, label_bins: tuple[Mapping[str, Any], ...]) -> None:
        if bool(label_bins) is not (self.labels == "empirical"):
            raise ValueError("label_bins: empirical labels are drawn from some, and others from none")
        if any(type(one.get("patients")) is not int or not isinstance(one.get("of"), Mapping) for one in label_bins):
            raise ValueError("label_bins: each says of what and how many patients it is")

    @counts.validator
    def _check(self, _attribute: object, counts: Mapping[str, int]) -> None:
        for split, count in counts.items():
            if split not in SPLITS or type(count) is not int or count < 0:
                raise ValueError(f"counts: {split}={count!r} is no number of videos of a split of {', '.join(SPLITS)}")

    @property
    def shards(self) -> list[Shard]:
        """Every shard, in order; a shard holds samples of one split."""
        shards: list[Shard] = []
        first = 0
        for split in SPLITS:
            count = self.counts.get(split, 0)
            for i, start in enumerate(range(0, count, self.shard_size)):
                samples = range(first + start, first + min(start + self.shard_size, count))
                shards.append(Shard(number=len(shards), name=f"{split}-{i:06d}", split=split, samples=samples))
            first += count
        return shards

    def public(self) -> dict[str, Any]:
        """Return what `dataset.json` says of the plan."""
        plain = attrs.asdict(self, filter=attrs.filters.exclude("private"))
        for name in ("withheld", "label_bins"):
            if not plain[name]:  # as in most, and in all of an earlier version
                del plain[name]
        if self.label_bins:
            plain["label_bins"] = [dict(one) for one in self.label_bins]
        return plain

    def whole_plugin_set(self) -> dict[str, Any]:
        """Return the plugin set with the values that are not published. Raises `InputError` where one is unknown."""
        unknown = [name for name in self.withheld if name not in self.private]
        if unknown:
            raise InputError(
                f"a dataset does not tell where files lie, and this one was made with some: say it again: "
                f"{' '.join(f'--set {name}=VALUE' for name in unknown)}"
            )
        whole = dict(self.plugin_set)
        for name, value in self.private.items():
            kind, _, key = name.partition(".")
            whole[kind] = {**whole[kind], key: value}
        return whole

    @classmethod
    def of_public(cls, plain: Any) -> Self:
        """Return the plan of what `public` says. Raises `ValueError`, in a line, where that is no whole plan."""
        try:
            plan = _CONVERTER.structure(plain, cls)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, cattrs.BaseValidationError) as error:
            raise ValueError(f"no plan: {first_reason(error)}") from error
        if plan.public() != plain:
            raise ValueError(f"no plan: {', '.join(plan.different(plain))} is missing or no such value")
        return plan

    def different(self, other: Mapping[str, Any]) -> list[str]:
        """Return the names of what differs in another plan's `public`, but for the digest."""
        mine = self.public()
        return [key for key in {**mine, **other} if key != "digest" and other.get(key) != mine.get(key)]

    def compared(self, other: Mapping[str, Any]) -> str:
        """Say in what another plan differs, for messages."""
        different = self.different(other)
        return f"it differs in {', '.join(different)}" if different else "its bundle had other private parts"


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def first_reason(error: BaseException) -> str:
    """Say what went wrong first, in a line; cattrs nests it in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = (error.args and error.args[0]) or error  # attrs' validators carry more arguments than the message
    return " ".join(f"{type(error).__name__}: {text}".split())


@frozen(kw_only=True)
class Shard:
    """One task: its number in the plan, its file name's stem, and its samples."""

    number: int
    name: str
    split: str
    samples: range


def sealed(plan: Plan, key: bytes, private_digest: str) -> Plan:
    """Return the plan with its digest."""
    text = json.dumps([attrs.evolve(plan, digest="").public(), private_digest], sort_keys=True)
    return attrs.evolve(plan, digest=hmac.new(key, text.encode(), hashlib.sha256).hexdigest())


def withhold(plugin_set: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Return a plan's `plugin_set`, `withheld` and `private`, of a whole plugin set as plain values.

    Of a file the bytes decide, wherever they lie. Without a secret (of a stripped bundle) a digest could be guessed at,
    and is left out.
    """
    private = {
        f"{kind}.{name}": value
        for kind, choice in plugin_set.items()
        if isinstance(choice, Mapping)
        for name, value in choice.items()
        if any(published(place) != place for place in places(value))
    }
    withheld = {name: _sealed_value(name, value, key) for name, value in private.items()}
    return {"plugin_set": published(plugin_set), "withheld": withheld, "private": private}


def with_private(plan: Plan, values: Mapping[str, Any], key: bytes) -> Plan:
    """Return a plan that was read from a dataset with what it does not tell, said again and found to be the same."""
    for name, value in values.items():
        if plan.withheld[name] != _sealed_value(name, value, key):
            raise InputError(f"--set {name}: the dataset was made with another one; say the one that it was made with")
    return attrs.evolve(plan, private=dict(values))


def _sealed_value(name: str, value: Any, key: bytes) -> str:
    text = json.dumps([name, _what_decides(value)], sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() if key else ""


def _what_decides(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _what_decides(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_what_decides(item) for item in value]
    if published(value) == value:
        return value
    path = Path(value).expanduser()
    return file_digest(path) if path.is_file() else without_secrets(value)


def parse_splits(text: str) -> dict[str, int]:
    """Read `train=8,val=2,test=2`."""
    counts: dict[str, int] = {}
    for pair in text.split(","):
        split, equals, number = pair.partition("=")
        if split not in SPLITS or not equals or not number.isdecimal():
            raise InputError(f"--splits {text}: {pair!r} is not SPLIT=NUMBER with a split of {', '.join(SPLITS)}")
        if split in counts:
            raise InputError(f"--splits {text}: {split!r} is there twice; say it once")
        counts[split] = int(number)
    return counts


def parse_shards(text: str | None, total: int) -> range:
    """Read `A:B`: shards A up to, not including, B."""
    if text is None:
        return range(total)
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal() or not int(first) < int(last) <= total:
        raise InputError(f"--shards {text}: wants A:B with 0 <= A < B <= {total}, the number of shards of this plan")
    return range(int(first), int(last))
