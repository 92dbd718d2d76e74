"""Python in new processes, for measurements that need their own memory, imports or threads."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LOCATOR_RUN = ("data.source=phantom", "data.workers=0", "locator.backbone.weights=none", "trainer.progress=false")


def run_python(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run Python with these arguments and return its standard output.

    Raises:
        RuntimeError: the exit code is not `code`.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=os.environ | (env or {}))
    if done.returncode != code:
        output = f"{done.stdout}\n{done.stderr}"
        raise RuntimeError(f"python {' '.join(arguments)}: exit code {done.returncode}, expected {code}:\n{output}")
    return done.stdout


def printed_numbers(function: Callable[..., None], *arguments: str | int, env: dict[str, str] | None = None) -> list[float]:
    """Call a module's function in a new process and return the numbers in the last line that it prints."""
    code = f"from {function.__module__} import {function.__name__}; {function.__name__}(*{arguments!r})"
    return [float(number) for number in run_python("-c", code, env=env).splitlines()[-1].split()]


def locator_run(folder: str, *settings: str) -> list[str]:
    """Return the arguments of a `baa.fit` that trains a locator on phantoms in a new run folder. All runs share a cache."""
    config = Path(folder) / "locator.yaml"
    config.write_text("stages: [locator]\n")
    runs = tempfile.mkdtemp(dir=folder)
    return ["--config", str(config), f"data.cache={folder}/cache", f"runs={runs}", *LOCATOR_RUN, *settings]
