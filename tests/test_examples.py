"""The examples in docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import baa

PACKAGE = Path(baa.__file__).parent
MODULES = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in file.read_text()
]


def test_models_views_augmentation_and_api_have_examples():
    assert {"baa.api", "baa.data.augment", "baa.nets.two_stage", "baa.nets.view"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
