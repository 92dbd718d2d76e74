"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import baa

PACKAGE = Path(baa.__file__).parent
MODULES = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in file.read_text()
]


def test_models_views_and_augmentation_have_examples():
    """`test_docstrings` has the list of the API, metrics and readers."""
    assert {"baa.data.augment", "baa.nets.two_stage", "baa.nets.view"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module):
    examples = importlib.import_module(module)
    results = doctest.testmod(examples)
    assert results.attempted == inspect.getsource(examples).count(">>> ")
    assert results.failed == 0
