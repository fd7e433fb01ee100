"""Contract tests that a plugin's author subclasses: say how the component is built, inherit what is asked of it.

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

A component that learns is trained on a few made-up clips first: build it with a recipe of a few steps. It takes pytest.
"""

import pytest

pytest.register_assert_rewrite("echosdk.testing.filters", "echosdk.testing.stitchers")

from echosdk.testing.filters import FilterContract  # noqa: E402  # after its assertions were registered
from echosdk.testing.stitchers import StitcherContract  # noqa: E402

__all__ = ["FilterContract", "StitcherContract"]
