"""A profile says where a step went."""

import json

from tiny_run import settings


def test_a_profiled_run_leaves_a_trace_and_ten_lines(tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    run(
        load(
            None,
            settings(tmp_path, "trainer.profile=true", "locator.fit.batch_size=4", "locator.fit.epochs=1", "stages=[locator]"),
        )
    )
    stage = tmp_path / "tiny" / "locator"
    lines = (stage / "profile.txt").read_text().splitlines()

    assert len(lines) == 10
    assert lines[0].endswith("baa: forward")
    assert any("conv" in line for line in lines)
    assert any(event.get("name") == "baa: forward" for event in json.loads((stage / "trace.json").read_text())["traceEvents"])
