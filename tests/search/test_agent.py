"""W&B's own client and agents run our sweep against a local server."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_run import BRIEF_FIT, TINY
from wandb_server import ENTITY, PROJECT, Server, serving

WANDB = [sys.executable, "-m", "wandb"]


@pytest.fixture
def sweep_file(tmp_path, finished):
    """sweeps/fusion.yaml, on phantoms and small networks."""
    folder, _ = finished
    content = yaml.safe_load(Path("sweeps/fusion.yaml").read_text())
    (tmp_path / "tiny.yaml").write_text("")
    instead = {"baa.fit": BRIEF_FIT, "conf/rsna.yaml": str(tmp_path / "tiny.yaml")}
    content["command"] = [instead.get(part, part) for part in content["command"] if part != "-m"]
    for setting in [*TINY, "estimator.fit.epochs=1", f"runs={tmp_path}/runs", f"data.cache={folder}/cache"]:
        name, _, value = setting.partition("=")
        content["parameters"][name] = {"value": value}
    content["parameters"]["locator.checkpoint"] = {"value": str(folder / "tiny" / "locator" / "best.ckpt")}
    (tmp_path / "fusion.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "fusion.yaml"


def environment(server, folder):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return clean | {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_DIR": str(folder),
        "HOME": str(folder),
        "RSNA": str(folder),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WANDB_AGENT_DISABLE_FLAPPING": "true",
        "PYTHONPATH": str(Path.cwd()),
    }


def begin_sweep(file, server):
    arguments = [*WANDB, "sweep", "--entity", ENTITY, "--project", PROJECT, str(file)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=environment(server, file.parent), cwd=file.parent, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"wandb agent (\S+)", done.stdout + done.stderr)[1]


def begin_agents(sweep, file, server, count, *options):
    return [
        subprocess.Popen(
            [*WANDB, "agent", *options, sweep],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(server, file.parent),
            cwd=file.parent,
        )
        for _ in range(count)
    ]


def agents(sweep, file, server, count):
    started = begin_agents(sweep, file, server, count)
    return [process.communicate(timeout=400)[0] for process in started]


@pytest.mark.parametrize(("count", "trials", "failing"), [(1, 2, 0), pytest.param(2, 4, 2, marks=pytest.mark.slow)])
def test_agents_finish_a_sweep_in_which_one_trial_fails(sweep_file, count, trials, failing):
    with serving(Server(trials=trials, overrides={failing: {"estimator.hand.name": "no_such_network"}})) as server:
        outputs = agents(begin_sweep(sweep_file, server), sweep_file, server, count)

    assert {agent for agent, number in server.assigned_to if number is not None} == {f"agent{i}" for i in range(count)}
    assert set(server.assigned) == {f"run{i}" for i in range(trials)}
    assert set(server.runs) == set(server.assigned), (outputs, server.unknown)
    for name, run in server.runs.items():
        if name == f"run{failing}":
            assert run.exit_code == 2
            continue
        fusion, given = run.config["estimator"]["fusion"], server.assigned[name]
        assert fusion["exchange"] == pytest.approx(given["estimator.fusion.exchange"])
        assert fusion["weights"]["carpal"] == pytest.approx(given["estimator.fusion.weights.carpal"])
        assert fusion["alpha_learned"] == given["estimator.fusion.alpha_learned"]
        assert run.summary["test/mae"] > 0
        assert run.exit_code == 0


@pytest.mark.slow
def test_a_trial_of_two_ranks_is_one_run(sweep_file):
    content = yaml.safe_load(sweep_file.read_text())
    for name, value in {"trainer.devices": 2, "trainer.accelerator": "cpu"}.items():
        content["parameters"][name] = {"value": value}
    sweep_file.write_text(yaml.safe_dump(content))
    with serving(Server(trials=1)) as server:
        outputs = agents(begin_sweep(sweep_file, server), sweep_file, server, 1)

    assert list(server.runs) == ["run0"], outputs
    assert "All distributed processes registered. Starting with 2 processes" in outputs[0]
    assert server.runs["run0"].summary["test/mae"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_trial_whose_agent_is_ended_is_given_to_another_one_and_goes_on(signum, sweep_file):
    content = yaml.safe_load(sweep_file.read_text())
    content["parameters"]["estimator.fit.epochs"] = {"value": 12}
    sweep_file.write_text(yaml.safe_dump(content))
    with serving(Server(trials=1)) as server:
        sweep = begin_sweep(sweep_file, server)
        [agent] = begin_agents(sweep, sweep_file, server, 1, "--forward-signals")
        deadline = time.monotonic() + 400
        while not (run := server.runs.get("run0")) or len(run.history) < 4:
            assert agent.poll() is None, agent.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        agent.send_signal(signum)
        output = agent.communicate(timeout=200)[0]
        assert (run.preempting, run.exit_code) == (True, 128 + signum), output
        [output] = agents(sweep, sweep_file, server, 1)

    assert server.assigned_to[1:] == [("agent1", 0), ("agent1", None)]
    assert "estimator: resumes after epoch" in output
    assert run.exit_code == 0, output
    assert run.summary["test/mae"] > 0
    steps = [row["trainer/global_step"] for row in run.history]
    assert steps == sorted(steps)
