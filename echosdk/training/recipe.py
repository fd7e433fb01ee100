"""How long and how fast a component is trained."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, gt, in_, lt


@frozen(kw_only=True)
class Recipe:
    """A component's `recipe` parameter. Steps are optimiser steps, `batch_size` counts examples over all processes.

    `ema_decay` 0 keeps no moving average; `max_grad_norm` 0 does not clip. `decay` is the learning rate's course after
    the warm-up: `constant`, `cosine` to zero at the last step, or `step`, times `decay_factor` every `decay_every`.
    """

    steps: int = field(default=1000, validator=ge(1))
    batch_size: int = field(default=32, validator=ge(1))
    learning_rate: float = field(default=1e-4, validator=gt(0))
    optimizer: Literal["adam", "adamw", "sgd"] = field(default="adamw", validator=in_(("adam", "adamw", "sgd")))
    weight_decay: float = field(default=0.0, validator=ge(0))
    warmup_steps: int = field(default=0, validator=ge(0))
    decay: Literal["constant", "cosine", "step"] = field(
        default="constant", validator=in_(("constant", "cosine", "step"))
    )
    decay_every: int = field(default=1000, validator=ge(1))
    decay_factor: float = field(default=0.1, validator=[gt(0), lt(1)])
    max_grad_norm: float = field(default=1.0, validator=ge(0))
    ema_decay: float = field(default=0.0, validator=[ge(0), lt(1)])
    checkpoint_every: int = field(default=250, validator=ge(1))
