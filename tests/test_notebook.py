"""A notebook sets MPLBACKEND for its own Python; commands and the API work under it, also where that backend is missing."""

import os
import subprocess
import sys

import pytest
from tiny_run import arguments, clean_environment

INLINE = "module://matplotlib_inline.backend_inline"
BACKENDS = [INLINE, "nbagg"]


def python(code, backend, *arguments):
    environment = os.environ | {"MPLBACKEND": backend, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("backend", BACKENDS)
def test_matplotlib_can_be_imported_after_baa(backend):
    code = "import baa, os, matplotlib.pyplot, torchmetrics.utilities.plot; print(os.environ.get('MPLBACKEND', 'none'))"
    done = python(code, backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in (backend, "none")
    if backend == "nbagg":  # a backend that there is stays that of the notebook's own figures
        assert done.stdout.strip() == backend


def test_the_quickstart_of_a_notebook_cell_trains_evaluates_and_predicts(tmp_path, finished):
    fit = [sys.executable, "-m", "baa.fit", *arguments(tmp_path, "locator.fit.epochs=1", "data.phantom.count=40")]
    done = subprocess.run(fit, capture_output=True, text=True, env=clean_environment() | {"MPLBACKEND": INLINE})
    assert done.returncode == 0, done.stderr
    stage = tmp_path / "tiny" / "locator"
    assert {"ages.png", "heat_maps.png", "learning_curve.png"} <= {file.name for file in stage.iterdir()}

    code = """
import sys
from pathlib import Path
import numpy as np
import baa
checkpoint, own, out = sys.argv[1:]
model = baa.load_model(checkpoint, device="cpu")
model.predict(np.zeros((200, 160), np.uint8), sex="male").plot(f"{out}/overlay.png")
model.evaluate([f"data.cache={own}/cache"], out=Path(out))
"""
    done = python(code, INLINE, finished[0] / "tiny" / "estimator" / "best.ckpt", finished[0], tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"overlay.png", "ages.png", "heat_maps.png", "report.html"} <= {file.name for file in tmp_path.iterdir()}


def test_the_figures_of_a_sweep_need_no_notebook(tmp_path):
    code = """
import sys, pathlib, baa, optuna
from baa.search.results import write_results
study = optuna.create_study()
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=6)
write_results(study, "val/mae", pathlib.Path(sys.argv[1]))
"""
    done = python(code, "nbagg", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"parallel.png", "importance.png"} <= {file.name for file in tmp_path.iterdir()}
