"""Every snippet of the README and of the guides runs, and prints what its page says it prints."""

import re

import matplotlib.pyplot as plt
import pytest

from tests.cases import LONG_ONLY
from tests.docs.pages import PAGES, ROOT, differs, play

OF_MINUTES = ("network.md", "rates_and_driven_systems.md", "interoperability.md", "experiment.md")


@pytest.mark.slow
@pytest.mark.always(each=True)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=LONG_ONLY if page.name in OF_MINUTES else ()) for page in PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names = play(page)
    plt.close("all")
    if page.name == "README.md":
        assert abs(float(names["exits"].exit_time.mean()) - 33.95) < 4
        assert names["run"].attrs["certificate"] == "passed"


def test_an_output_that_differs_is_found():
    assert differs("T = 0.10, 1.234 +- 0.01\n", "T = 0.1, 1.24 +- 0.01") is None
    assert differs("x 1.21e-05", "x 1.3e-5") is None
    assert differs("x 1.21", "x 1.25", 0.05) is None
    assert "expected 1.25" in differs("x 1.21", "x 1.25")
    assert "expected 1.30" in differs("x 1.2", "x 1.30", 0.05)
    assert "expected 1.3e-5" in differs("x 1.1e-05", "x 1.3e-5")
    assert "expected 2" in differs("n 3", "n 2")
    assert "words" in differs("holds 1.2", "fails 1.2")


def test_a_page_fails_with_its_snippets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(2)\n```\n\n```text\n2\n```\n\n<!-- not run: no -->\n```python\n1 / 0\n```\n")
    play(page)
    page.write_text("```python\nprint(2)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError, match="line 6: got 2, expected 3"):
        play(page)
    page.write_text("```console\n$ landscape info missing.nc\n```\n")
    with pytest.raises(AssertionError, match="exit code 4"):
        play(page)
    page.write_text("```{code-block} python\n:class: norun\n1 / 0\n```\n\n```python\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError):
        play(page)


def test_tests_that_pages_name_exist():
    named = [
        (page, *found)
        for page in PAGES
        for found in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text("utf-8"))
    ]
    assert named
    for page, path, name in named:
        assert (ROOT / path).exists(), (page, path)
        assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8"), (page, f"{path}::{name}")
