"""Exchanges within the compiled loop: the same bits as from outside it, however the run is divided into pieces."""

import numpy as np
import pytest

import landscape as ls
from landscape.engine.compiled_formula import CompiledFormula
from landscape.errors import NonFiniteError
from landscape.potentials import Expression

WELL = Expression("(x**2 - 1)**2 + a*x", ["x"], {"a": 0.06})
PLANE = Expression("(x**2 - 1)**2 + (y - x)**2", ["x", "y"])
RULES = {
    "EulerMaruyama": ls.EulerMaruyama(0.01),
    "LeimkuhlerMatthews": ls.LeimkuhlerMatthews(0.05),
    "BAOAB": ls.BAOAB(0.1, 1.0),
    "SGHMC": ls.SGHMC(0.01, 0.3),
    "MALA": ls.MALA(0.05),
    "HMC": ls.HMC(0.1, 2),
}


def run(rule, *, rungs=4, ladders=10, potential=WELL, steps=60, swap_every=1, record=None, **settings):
    return ls.replica_exchange(
        potential, rule, np.geomspace(0.05, 0.4, rungs), steps=steps, swap_every=swap_every, ladders=ladders, seed=1,
        record=record or ls.Record(4, ["position", "energy"]), **settings,
    )  # fmt: skip


@pytest.fixture
def outside(monkeypatch):
    """Runs whose exchanges are made between calls of the loop."""

    def made(*given, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(CompiledFormula, "exchanger", None)
            return run(*given, **settings)

    return made


@pytest.mark.parametrize("name", RULES)
def test_bits_are_those_of_exchanges_from_outside(name, outside):
    """Even and odd ladders, few and many chains, every step and not, one coordinate and two."""
    for settings in (
        {"rungs": 4, "ladders": 10, "swap_every": 1},
        {"rungs": 5, "ladders": 7, "swap_every": 3},
        {"rungs": 3, "ladders": 1, "swap_every": 2},
        {"rungs": 2, "ladders": 20, "swap_every": 7, "potential": PLANE},
    ):
        here, there = run(RULES[name], **settings), outside(RULES[name], **settings)
        assert here.drop_attrs().identical(there.drop_attrs())
        assert 0.1 < float(here.swap_acceptance.mean()) < 1
        assert (np.diff(here.walker) != 0).any()


def test_bits_do_not_depend_on_pieces(monkeypatch, outside):
    """Pieces as short as can be, draws that only torch makes, and sums on the way."""
    whole = run(RULES["BAOAB"], swap_every=3)
    with monkeypatch.context() as patch:
        patch.setattr("landscape.engine.driver.PIECE_BYTES", 1)
        assert run(RULES["BAOAB"], swap_every=3).drop_attrs().identical(whole.drop_attrs())
    momenta = ls.Record(4, ["position", "momentum", ls.Moments("energy")])
    here, there = (one(RULES["BAOAB"], swap_every=3, record=momenta) for one in (run, outside))
    assert here.drop_attrs().identical(there.drop_attrs())
    assert np.array_equal(here.position, whole.position)


def test_what_diverges_is_found_at_its_step(outside):
    """Chains that went to infinity would be exchanged like others: the pieces are divided until none is."""
    errors = []
    for one in (run, outside):
        with pytest.raises(NonFiniteError) as caught:
            one(ls.EulerMaruyama(0.33), steps=4000, swap_every=2, record=ls.Record(5))
        errors.append(caught.value)
    here, there = errors
    assert (here.step, here.chain, str(here)) == (there.step, there.chain, str(there))
    assert here.step > 2
    assert here.dataset.drop_attrs().identical(there.dataset.drop_attrs())
