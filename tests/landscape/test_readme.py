"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(BLOCKS[number], f"README, block {number + 1}", "exec"), names)  # noqa: S102  # our own text
    if "exits" in names:
        assert abs(float(names["exits"].exit_time.mean()) - 33.95) < 4
        assert names["run"].attrs["certificate"] == "passed"
