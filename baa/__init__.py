"""Bone age from a hand radiograph, with the regions that it was read from, learned without drawn boxes."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baa.api import Model, load_model

__all__ = ["Model", "load_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from baa import api  # brings torch, which `import baa` does not

        return getattr(api, name)
    raise AttributeError(f"module 'baa' has no attribute {name!r}")


def _import_matplotlib(backend: str) -> None:
    """Import Matplotlib even if this Python lacks the backend that `MPLBACKEND` names, which stops an ordinary import.

    Jupyter and Colab set it for their own Python, and `!python` inherits it. Captum and torchmetrics import Matplotlib too. The
    figures of this package are drawn by Agg, and a notebook keeps its backend for its own figures.
    """
    import matplotlib

    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
        os.environ["MPLBACKEND"] = backend


if os.environ.get("MPLBACKEND") and "matplotlib" not in sys.modules:
    _import_matplotlib(os.environ.pop("MPLBACKEND"))
