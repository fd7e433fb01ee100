"""Make `import torchvision` work beside a torch that its compiled operators were not built for.

When it is imported, torchvision registers shape functions for two of its compiled operators. Where their library cannot
be loaded, as beside some CPU-only builds of torch, the import fails with `operator torchvision::nms does not exist`,
and with it that of `lpips` and, where transformers is installed, of diffusers' models. None of these operators is used
here. So, before any plugin is loaded, the schemas that are missing are defined, without an implementation: a call of
such an operator still fails with torchvision's own message, only the import no longer does.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_libraries: list[Any] = []  # a definition lives as long as its Library object


def define_missing_operators() -> None:
    """Define the schemas that torchvision's import needs, where its compiled library does not provide them."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if missing:
        library_of_schemas = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library_of_schemas.define(schema)
        _libraries.append(library_of_schemas)
