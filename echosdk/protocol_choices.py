"""Every choice of `echosdk protocol`, as one TOML file holds them; and how it ended.

```toml
data = "phantom?patients=800&frames=32&fps=16&videos=2"
bundle = "phantom"                # leave it out to train one
plugin_set = "default-small"
seed = 0

[generate]
splits = { train = 300, val = 50, test = 50 }    # default: as many as the real data has
num_frames = 32

[validate]
seeds = 3
set = ["downstream_validator.recipe.steps=300"]
```
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field, frozen
from attrs.validators import ge, gt, optional

from echosdk.documents import read_toml
from echosdk.errors import InputError
from echosdk.interfaces import SPLITS, Switches
from echosdk.parameter_values import read_value
from echosdk.registry import choose

Dtype = Literal["float32", "bfloat16", "float16"]


@frozen(kw_only=True)
class Train:
    """How the bundle is trained, where none is taken. `start` is the bundle of `--from`: each stage starts from it."""

    dtype: Dtype = "float32"
    references: int = field(default=4, validator=ge(1))
    skip_bad: bool = False
    start: str | None = None
    threads: int | None = field(default=None, validator=optional(ge(1)))
    switches: Switches = Switches()


@frozen(kw_only=True)
class Generate:
    """What is generated. `splits` None is as many videos as the real data has of each split, or those of `like`.

    `labels` None is empirical with `like`, a real dataset that is mirrored, and uniform without.
    `datasets` above 1 makes further ones with the next seeds, which are compared too and are no part of what is shared.
    """

    splits: Mapping[str, int] | None = field(default=None)
    num_frames: int | None = field(default=None, validator=optional(ge(1)))
    datasets: int = field(default=1, validator=ge(1))
    shard_size: int | None = field(default=None, validator=optional(ge(1)))
    micro_batch: int = field(default=4, validator=ge(1))
    max_attempts: int = field(default=20, validator=ge(1))
    threads: int = field(default=1, validator=ge(1))
    dtype: Dtype | None = None
    format: Literal["mp4", "avi", "mkv", "npy"] = "mp4"
    labels: Literal["uniform", "empirical"] | None = None
    like: str | None = None

    @splits.validator
    def _check(self, _attribute: object, splits: Mapping[str, int] | None) -> None:
        for split, videos in (splits or {}).items():
            if split not in SPLITS:
                raise ValueError(f"splits.{split}: no such split; choose from {', '.join(SPLITS)}")
            if videos < 0:
                raise ValueError(f"splits.{split}: {videos}; wants 0 or more videos")
        if splits is not None and not sum(splits.values()):
            raise ValueError("splits: no videos are asked for; give at least one split some")


@frozen(kw_only=True)
class AuditChoices:
    """How much of it is audited, and what it must show: a policy file, None for echosdk's own.

    See `echosdk audit`; `use` and `set` are of the filter alone.
    """

    policy: str | None = None
    patients: int = field(default=3000, validator=ge(1))
    videos: int = field(default=100, validator=ge(0))
    frames: int = field(default=4, validator=ge(1))
    stills: int = field(default=300, validator=ge(0))
    probe_patients: int = field(default=0, validator=ge(0))
    anatomy_patients: int | None = field(default=None, validator=optional(ge(10)))
    second_network: str | None = None
    use: tuple[str, ...] = ()
    set_: tuple[str, ...] = field(default=(), alias="set")

    def words(self) -> dict[str, Any]:
        """Return them as `echosdk.privacy.audit.Audit` takes them."""
        chosen = attrs.asdict(self)
        second = Path(self.second_network) if self.second_network else None
        return chosen | {"anatomy_patients": self.anatomy_patients or 0, "second_network": second}


@frozen(kw_only=True)
class Evaluate:
    """How many generated videos are measured, and what is drawn in memory beside: the paper's tables 1 to 3."""

    videos: int = field(default=500, validator=ge(1))
    reconstructions: bool = False
    stills: bool = False
    real_stills: bool = False


@frozen(kw_only=True)
class Validate:
    """How the trainings are compared: see `echosdk validate`. `use` and `set` are of the validator alone."""

    label: str | None = None
    seeds: int = field(default=3, validator=ge(2))
    margin: float = field(default=0.5, validator=gt(0))
    reconstruct: bool = True
    relabel: bool = False
    empirical: bool = False
    label_noise: float = field(default=0.0, validator=ge(0))
    augment: bool = False
    fractions: tuple[float, ...] = (0.1,)
    cutoffs: tuple[float, ...] | None = None
    dtype: Dtype = "float32"
    resamples: int = field(default=10_000, validator=ge(100))
    use: tuple[str, ...] = ()
    set_: tuple[str, ...] = field(default=(), alias="set")


@frozen(kw_only=True)
class Choices:
    """All of them. `use` and `set` change the plugin set, as on the command line.

    `data` is one source, or several: all are trained on, and the first is mirrored, audited and compared.
    """

    data: str | tuple[str, ...] = field()
    bundle: str | None = None
    plugin_set: str = "default"
    use: tuple[str, ...] = ()
    set_: tuple[str, ...] = field(default=(), alias="set")
    seed: int = field(default=0, validator=ge(0))
    device: str = "auto"
    train: Train = Train()
    generate: Generate = Generate()
    audit: AuditChoices = AuditChoices()
    evaluate: Evaluate = Evaluate()
    validate: Validate = Validate()

    @data.validator
    def _check(self, _attribute: object, data: str | tuple[str, ...]) -> None:
        if not data or not all(data):
            raise ValueError("data: names no source")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.data,) if isinstance(self.data, str) else self.data


@frozen(kw_only=True)
class Outcome:
    """How it ended. None where a step was not done; `ok` is False where a verdict is negative."""

    policy_met: bool | None
    verdict: str | None
    report: Path | None

    @property
    def ok(self) -> bool:
        return self.policy_met is not False and self.verdict in (None, "substitute")


def read_choices(path: Path | None, given: Mapping[str, Any]) -> Choices:
    """Read a TOML file, if there is one; what is `given` wins. Raises `InputError` that names file, key and choices."""
    table: dict[str, Any] = {}
    where = path.name if path else ""
    if path:
        try:
            table = read_toml(path.read_text())
        except OSError as error:
            raise InputError(f"--config {path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path.name}: not valid TOML: {error}") from error
    table |= given
    hints: dict[str, Any] = {str(one.alias): one.type for one in attrs.fields(attrs.resolve_types(Choices))}
    for key in table:
        if key not in hints:
            raise InputError(f"{where}: {key}: no such key; {choose(key, hints)}")
    if "data" not in table:
        raise InputError("--data SOURCE is missing: name the real data there, or as `data` in the file of --config")
    read = {
        key: read_value(value, hints[key], f"{where}: {key}" if where else key, choose) for key, value in table.items()
    }
    try:
        return Choices(**read)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where or 'the choices'}: {error.args[0] if error.args else error}") from error


def different(before: Mapping[str, Any], now: Mapping[str, Any], under: str = "") -> list[str]:
    """Return the dotted names of what differs."""
    found = []
    for key in {**before, **now}:
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += different(one, other, f"{under}{key}.")
        elif one != other:
            found.append(f"{under}{key}")
    return found
