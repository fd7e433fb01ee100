"""Contract tests that a plugin's author subclasses: say how the component is built, inherit what is asked of it.

| kind                   | class               | what `build` returns is shown                         |
|------------------------|---------------------|-------------------------------------------------------|
| `encoder`              | `EncoderContract`   | images of `shape` `k H W`                             |
| `image_prior`          | `PriorContract`     | generators, and latents of `shape` `c h w` to learn   |
| `privacy_filter`       | `FilterContract`    | latents of `shape`, or images, as its `space` says    |
| `video_animator`       | `AnimatorContract`  | latents of `shape` `c h w`                            |
| `stitcher`             | `StitcherContract`  | animators of which it is known what comes out         |
| `downstream_validator` | `ValidatorContract` | clips of `frames` frames of `shape` `H W` or `H W 3`  |
| `data_source`          | `SourceContract`    | nothing: its own clips are looked at                  |

```python
# conftest.py
pytest_plugins = ["echosdk.testing.fixtures"]

# test_my_filter.py
from echosdk.testing import FilterContract
from my_plugin import MyFilter

class TestMyFilter(FilterContract):
    def build(self):
        return MyFilter()
```

A component that learns is trained on a few made-up clips first: build it with a recipe of a few steps. What is asked
afterwards is asked of the state that it saved. `data` of a contract returns those clips, for a component that needs
others. It takes pytest. `echosdk plugins check PACKAGE` runs the same on what an installed package offers.
"""

import pytest

_MODULES = ("encoders", "priors", "filters", "animators", "stitchers", "validators", "sources")
pytest.register_assert_rewrite(*(f"echosdk.testing.{module}" for module in _MODULES))

# After its assertions were registered:
from echosdk.testing.animators import AnimatorContract  # noqa: E402
from echosdk.testing.encoders import EncoderContract  # noqa: E402
from echosdk.testing.filters import FilterContract  # noqa: E402
from echosdk.testing.priors import PriorContract  # noqa: E402
from echosdk.testing.sources import SourceContract  # noqa: E402
from echosdk.testing.stitchers import StitcherContract  # noqa: E402
from echosdk.testing.validators import ValidatorContract  # noqa: E402

CONTRACTS = {
    "encoder": EncoderContract,
    "image_prior": PriorContract,
    "privacy_filter": FilterContract,
    "video_animator": AnimatorContract,
    "stitcher": StitcherContract,
    "downstream_validator": ValidatorContract,
    "data_source": SourceContract,
}
"""The contract's class of every kind."""

__all__ = [
    "CONTRACTS",
    "AnimatorContract",
    "EncoderContract",
    "FilterContract",
    "PriorContract",
    "SourceContract",
    "StitcherContract",
    "ValidatorContract",
]
