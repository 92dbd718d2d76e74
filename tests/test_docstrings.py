"""Public functions of the networks and of the API have shapes; the API, metrics and readers have examples."""

import importlib
import inspect
import pkgutil
import re
import typing
from types import ModuleType

import numpy as np
import pytest
from jaxtyping import AbstractArray, Float
from torch import Tensor, nn

import baa.api
import baa.data.read
import baa.data.sources
import baa.inference.prediction
import baa.metrics
import baa.nets

SHAPE = r"\[(?!0, 1\]|-1, 1\])(?:\.\.\.|[\w'* /]+)?(?:, ?(?:\.\.\.|[\w'* /]+))*\]"
"""Such as [B, 1, px, px], [..., 4] or [S * width]; a scalar is []. Ranges of values are none."""

NAMED = re.compile(r"(?:^|\s)[*{ ]*[A-Za-z]|^\s*$")
"""A dimension with a name in a jaxtyping annotation, or a scalar."""

CALLED = ("forward", "__call__")
"""Methods whose shapes may stand in the docstring of their class."""

READERS = ("tables", "workbook", "parquet", "splits", "annotations", "cases", "sampling")
"""Modules of `baa.data` that read and order cases, besides the packages `read` and `sources`."""

NO_EXAMPLE = {
    "baa.data.read.serve": "the loop of the decoder process, which never returns; the example of `process` runs it",
    "baa.data.sources.phantom.exposure": "a step of `Phantom.load`, whose example runs it",
    "baa.data.sources.phantom.skeleton": "a step of `Phantom.load`, whose example runs it",
}


def modules_of(*packages: ModuleType) -> list[ModuleType]:
    found = []
    for package in packages:
        found.append(package)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
            found.append(importlib.import_module(module.name))
    return found


class Public(typing.NamedTuple):
    """A public class, function or method, and its docstring."""

    name: str
    member: type | typing.Callable
    doc: str


def public(module: ModuleType) -> list[Public]:
    """The public classes and functions that a module defines, and the public methods of its public classes."""
    found = []
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(member) or inspect.isfunction(inspect.unwrap(member)):
            found.append(Public(f"{module.__name__}.{name}", member, member.__doc__ or ""))
        if inspect.isclass(member):
            found += [method._replace(name=f"{module.__name__}.{name}.{method.name}") for method in methods_of(member)]
    return found


def methods_of(kind: type) -> list[Public]:
    found = []
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if (not name.startswith("_") or name in CALLED) and inspect.isfunction(inspect.unwrap(function)):
            found.append(Public(name, function, (function.__doc__ or "") + (kind.__doc__ or "" if name in CALLED else "")))
    return found


def hints_of(member: type | typing.Callable) -> dict[str, typing.Any]:
    return typing.get_type_hints(inspect.unwrap(member))


def leaves(hint: typing.Any) -> list[typing.Any]:
    """The types in a hint: `dict[str, Tensor] | None` has str, Tensor and None."""
    inner = hint if isinstance(hint, list) else typing.get_args(hint)
    return [leaf for part in inner for leaf in leaves(part)] if inner else [hint]


def is_annotated(leaf: typing.Any) -> bool:
    return inspect.isclass(leaf) and issubclass(leaf, AbstractArray)


def is_bare(leaf: typing.Any) -> bool:
    return leaf in (Tensor, np.ndarray)


def holds_arrays(leaf: typing.Any) -> bool:
    """Whether a type is a tuple or a dataclass with arrays, such as `View` and `Regions`."""
    if not inspect.isclass(leaf) or not (issubclass(leaf, tuple) or hasattr(leaf, "__dataclass_fields__")):
        return False
    fields = [part for hint in hints_of(leaf).values() for part in leaves(hint)]
    return any(is_annotated(part) or is_bare(part) for part in fields)


def lacks_shapes(member: type | typing.Callable, doc: str) -> str:
    """What has no shape in a class or a function; empty if all has."""
    if inspect.isclass(member) and issubclass(member, nn.Module):
        return "" if "Shapes:" in doc and re.search(SHAPE, doc) else "no section `Shapes:`"
    hints = {name: leaves(hint) for name, hint in hints_of(member).items()}
    if unnamed := [
        name for name, parts in hints.items() for part in parts if is_annotated(part) and not NAMED.search(part.dim_str)
    ]:
        return f"{unnamed[0]}: no dimension has a name"
    if inspect.isclass(member):
        bare = [name for name, parts in hints.items() if any(map(is_bare, parts)) and not name.startswith("_")]
        return next((f"{name}: no shape" for name in bare if not re.search(rf"\b{name}\b[^:]*: [^\n]*{SHAPE}", doc)), "")
    parts = [part for found in hints.values() for part in found]
    if any(map(is_bare, parts)) or (any(map(holds_arrays, parts)) and not any(map(is_annotated, parts))):
        return "" if re.search(SHAPE, doc) else "arrays without a shape"
    return ""


NETS = [found for module in modules_of(baa.nets) for found in public(module)]
API = [found for module in (baa.api, baa.inference.prediction) for found in public(module)]


@pytest.mark.parametrize("one", NETS + API, ids=lambda one: one.name)
def test_public_arrays_have_shapes(one):
    assert lacks_shapes(one.member, one.doc) == ""


def test_a_function_without_shapes_is_found():
    def undocumented(image: Tensor) -> Tensor:
        """Flip it."""

    def unnamed(image: Float[Tensor, "_ _ _ _"]) -> None:
        """Flip it."""

    def annotated(image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, ""]:
        """Average it."""

    def documented(image: Tensor) -> Tensor:
        """Flip it: [B, 1, H, W]."""

    class Net(nn.Module):
        """A network."""

    class Pair(typing.NamedTuple):
        """Two tensors.

        first: [B].
        second: of the same kind.
        """

        first: Tensor
        second: Tensor

    def lacking(member):
        return lacks_shapes(member, member.__doc__)

    assert lacking(undocumented) == "arrays without a shape"
    assert lacking(unnamed) == "image: no dimension has a name"
    assert lacking(annotated) == lacking(documented) == ""
    assert lacking(Net) == "no section `Shapes:`"
    assert lacking(Pair) == "second: no shape"


def with_examples() -> list[ModuleType]:
    """The modules of the API, metrics and readers that define anything public."""
    readers = [importlib.import_module(f"baa.data.{name}") for name in READERS]
    modules = [*modules_of(baa.metrics, baa.data.read, baa.data.sources), *readers, baa.api, baa.inference.prediction]
    return [module for module in modules if public(module) and not module.__name__.rpartition(".")[2].startswith("_")]


@pytest.mark.parametrize("module", with_examples(), ids=lambda module: module.__name__)
def test_the_api_metrics_and_readers_have_examples(module):
    """`test_examples` runs them."""
    has_example = ">>>" in inspect.getsource(module)
    assert has_example != (module.__name__ in NO_EXAMPLE)
