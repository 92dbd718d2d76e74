"""Bone age from a hand radiograph, with the regions that it was read from, learned without drawn boxes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baa.api import Model, load_model

__all__ = ["Model", "load_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from baa import api  # brings torch, which `import baa` does not

        return getattr(api, name)
    raise AttributeError(f"module 'baa' has no attribute {name!r}")
