"""The live view: numbers as a pure function of what a run has committed, and the command that follows it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import landscape as ls
from landscape.cli import watching as command
from landscape.cli.app import run
from landscape.workflows.watching import RECENT, chain_groups, frame, progress, sparkline


def of_steps(done, total=1000, status="running", energy=None, **coordinates):
    """What a run folder shows after so many steps."""
    energy = np.zeros((2, 3)) if energy is None else np.asarray(energy, dtype=float)
    settings = {"temperature": np.full(len(energy), 0.1), "dt": np.full(len(energy), 1e-3)} | coordinates
    dims = {name: ("chain", "draw")[: np.ndim(values)] for name, values in settings.items()}
    attributes = {"title": "EulerMaruyama on Valley", "status": status, "steps_done": done, "steps_total": total}
    return xr.Dataset(
        {"energy": (("chain", "draw"), energy)},
        {name: (dims[name], values) for name, values in settings.items()},
        attributes,
    )


def text_of(renderable, width=120):
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=False).print(renderable)
    return page.getvalue()


@pytest.mark.parametrize(
    ("before", "now", "total", "seconds"), [(0, 100, 1000, 2.0), (300, 700, 701, 0.5), (5, 6, 9, 10)]
)
def test_speed_is_steps_over_time_and_what_is_left_takes_as_long(before, now, total, seconds):
    made = progress(of_steps(now, total), of_steps(before, total), seconds=seconds)
    assert made.speed == pytest.approx((now - before) / seconds)
    assert made.left == pytest.approx((total - now) / made.speed)
    assert (made.done, made.total) == (now, total)


@pytest.mark.parametrize(("before", "seconds"), [(None, None), (None, 3.0), (of_steps(100), 3.0), (of_steps(50), None)])
def test_without_two_commits_there_is_no_speed(before, seconds):
    made = progress(of_steps(100), before, seconds=seconds)
    assert np.isnan(made.speed)
    assert np.isnan(made.left)


def test_chains_of_equal_settings_are_one_group():
    energy = np.arange(24.0).reshape(6, 4)
    temperature, dt = np.array([0.2, 0.1, 0.2, 0.1, 0.1, 0.2]), np.array([1, 1, 1, 2, 2, 1]) * 1e-3
    groups = chain_groups(of_steps(4, energy=energy, temperature=temperature, dt=dt))
    assert [(one.temperature, one.dt, one.chains) for one in groups] == [(0.1, 1e-3, 1), (0.1, 2e-3, 2), (0.2, 1e-3, 3)]
    assert groups[2].energy == energy[[0, 2, 5], -1].mean()
    assert np.array_equal(groups[2].series, energy[[0, 2, 5]].mean(axis=0))
    assert np.isnan(groups[0].stderr)
    assert groups[2].stderr > 0


def test_a_schedule_shows_its_last_temperature():
    falling = np.broadcast_to([0.3, 0.2, 0.1], (2, 3))
    assert [one.temperature for one in chain_groups(of_steps(3, temperature=falling))] == [0.1]


@pytest.mark.parametrize("chains", [3, 10])
def test_the_error_of_the_energy_covers(chains):
    """+-1.96 errors hold the truth in 95 of 100 cases; the control, without Student's factor at 3 chains, does not."""
    rng, held, control = np.random.default_rng(0), 0, 0
    for _ in range(400):
        means = rng.normal(5.0, 1.0, chains)
        (group,) = chain_groups(of_steps(8, energy=np.repeat(means[:, None], 8, axis=1)))
        held += abs(group.energy - 5.0) < 1.96 * group.stderr
        control += abs(group.energy - 5.0) < 1.96 * means.std(ddof=1) / np.sqrt(chains)
    z = (held / 400 - 0.95) / np.sqrt(0.95 * 0.05 / 400)
    assert abs(z) < 4.5
    if chains == 3:
        assert (control / 400 - 0.95) / np.sqrt(0.95 * 0.05 / 400) < -4.5


def test_only_recent_draws_are_read():
    energy = np.zeros((1, RECENT + 500))
    energy[:, :500] = 1e9
    (group,) = chain_groups(of_steps(1, energy=energy))
    assert len(group.series) == RECENT
    assert group.energy == group.series.max() == 0.0


def test_a_sparkline_follows_its_numbers():
    assert sparkline(np.arange(8.0)) == "▁▂▃▄▅▆▇█"
    assert sparkline(-np.arange(8.0)) == "█▇▆▅▄▃▂▁"
    assert len(sparkline(np.sin(np.arange(1000.0)), width=20)) == 20
    assert sparkline([0.0, np.nan, 1.0]) == "▁ █"
    assert sparkline([np.nan, np.nan]) == "  "


def test_a_frame_says_it_all():
    shown = text_of(frame(of_steps(400), of_steps(200), seconds=4.0, age=1.0))
    for words in ("EulerMaruyama on Valley  running", "400 of 1,000 steps, 40.0 %", "50 steps/s of 2 chains",
                  "about 12.0 s left", "last checkpoint 1.0 s ago", "temperature", "0.001"):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize(
    ("status", "said"),
    [("running", "after the next checkpoint"), ("complete", "done"), ("interrupted", "resume"), ("diverged", "resume")],
)
def test_a_frame_of_each_status(status, said):
    assert said in text_of(frame(of_steps(10, status=status)))


def test_a_frame_of_a_run_without_energies_or_draws():
    now = of_steps(0).drop_vars("energy")
    assert "0.1" in text_of(frame(now))
    assert "0.1" in text_of(frame(of_steps(0, energy=np.zeros((2, 0)))))


def test_it_follows_a_run_until_that_ends(monkeypatch, capsys, tmp_path):
    looks = [of_steps(200), of_steps(200), of_steps(400), of_steps(1000, status="complete")]
    seen, slept = [], []
    monkeypatch.setattr(command, "open_run", lambda path: looks.pop(0))
    monkeypatch.setattr(command, "frame", lambda *a, **k: seen.append((a, k)) or frame(*a, **k))
    monkeypatch.setattr(command.time, "sleep", slept.append)
    assert run(["watch", str(tmp_path), "--every", "0.5"]) == 0
    assert not looks
    assert slept == [0.5, 0.5, 0.5]
    assert "1,000 of 1,000 steps, 100.0 %" in capsys.readouterr().out
    steps = [tuple(one.attrs["steps_done"] for one in a if one is not None) for a, _ in seen]
    assert steps == [(200,), (200,), (400, 200), (1000, 400)]
    assert seen[-1][1]["seconds"] > 0


def test_once_looks_once(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "open_run", lambda path: of_steps(200))
    assert run(["watch", str(tmp_path), "--once"]) == 0
    assert "200 of 1,000 steps" in capsys.readouterr().out


def test_ctrl_c_is_the_way_to_leave(monkeypatch, tmp_path):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "open_run", lambda path: of_steps(200))
    monkeypatch.setattr(command.time, "sleep", interrupted)
    assert run(["watch", str(tmp_path)]) == 0


def test_a_finished_run_is_shown_once(tmp_path, capsys):
    ls.simulate(
        ls.potentials.DoubleWell(), ls.EulerMaruyama(dt=1e-2), temperature=[0.1, 0.2], steps=200,
        record=ls.Record(every=10), output=tmp_path / "run",
    )  # fmt: skip
    assert run(["watch", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    for words in ("EulerMaruyama on DoubleWell  complete", "200 of 200 steps", "done", "0.2"):
        assert words in shown


def test_nothing_to_watch_is_exit_code_4(tmp_path, capsys):
    assert run(["watch", str(tmp_path / "nowhere")]) == 4
    assert "nowhere" in capsys.readouterr().err
    assert run(["watch", "--help"]) == 0
    assert "Example:" in capsys.readouterr().out
