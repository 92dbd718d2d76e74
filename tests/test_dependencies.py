"""Every package that is imported is declared in pyproject.toml, for those who install nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {path.stem for path in Path("tests").rglob("*.py")} | {"baa", "conftest"}


def names(requirements):
    return {re.split(r"[\s<>=\[;]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def imported(folder):
    """Top-level names of the modules that files of a folder import, each with one of these files."""
    found = {}
    for file in Path(folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: file for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[node.module.split(".")[0]] = file
    return {module: file for module, file in found.items() if module not in sys.stdlib_module_names | OURS}


@pytest.mark.parametrize(("folder", "extras"), [("baa", ("app", "export", "bench")), ("tests", ("app", "export", "dev"))])
def test_every_imported_package_is_declared(folder, extras):
    declared = names([*PROJECT["dependencies"], *(requirement for extra in extras for requirement in EXTRAS[extra])])
    distributions = packages_distributions()
    undeclared = {
        f"{file}: {module}"
        for module, file in imported(folder).items()
        if (folder == "tests" or module in distributions)  # the bench extra need not be installed
        and not declared & {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
    }
    assert not undeclared
