"""Make `import torchvision` work beside a torch that its compiled operators were not built for.

When it is imported, torchvision registers shape functions for two of its compiled operators. Where their library cannot
be loaded, as beside some CPU-only builds of torch, the import fails with `operator torchvision::nms does not exist`,
and with it that of `lpips` and, where transformers is installed, of diffusers' models. None of these operators is used
here. So, when torchvision is first looked for, the schemas that are missing are defined, without an implementation: a
call of such an operator still fails with torchvision's own message, only the import no longer does.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_libraries: list[Any] = []  # a definition lives as long as its Library object


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; acts once, before torchvision is found."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            define_missing_operators()


def define_before_import() -> None:
    """Have the missing schemas defined when torchvision is first looked for; until then torch is not loaded."""
    if "torchvision" not in sys.modules and not any(isinstance(one, _BeforeTorchvision) for one in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


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
