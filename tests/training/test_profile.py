"""`trainer.profile` writes Lightning's PyTorch profile to the stage's folder."""

import json

import pytest
from tiny_run import settings


@pytest.mark.usefixtures("brief_finish")
def test_a_profiled_run_writes_a_table_of_costs_and_traces(tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    short = ["stages=[locator]", "data.phantom.count=40", "locator.fit.epochs=1", "locator.fit.batch_size=4"]
    run(load([], settings(tmp_path, "trainer.profile=true", *short)))
    stage = tmp_path / "tiny" / "locator"
    table = (stage / "fit-profile.txt").read_text()
    traces = list(stage.glob("fit-profile*training_step*.pt.trace.json"))

    assert "CPU total" in table
    assert "aten::conv2d" in table
    assert traces
    assert any("conv" in event.get("name", "") for event in json.loads(traces[0].read_text())["traceEvents"])
