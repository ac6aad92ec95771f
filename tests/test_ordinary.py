"""The choice of cases for the ordinary run."""

import pytest

from tests import ordinary


def test_cases_that_are_kept_are_spread():
    for cases in (1, 2, 7, 60):
        for kept in range(cases + 1):
            assert len(ordinary.spread(cases, kept)) == kept
    of_a_table = ordinary.spread(24, 4)  # every parameter of 24 = 2 x 3 x 4 cases is met with more than one value
    for values in (2, 3, 4):
        assert len({place % values for place in of_a_table}) > 1


@pytest.mark.parametrize(
    ("seconds", "always", "kept"),
    [(0.01, False, 50), (0.4, False, 1), (0.9, False, 1), (5.0, False, 0), (5.0, True, 1)],
)
def test_as_many_as_fit(seconds, always, kept):
    assert ordinary.how_many(seconds, always=always) == kept


def test_the_record_names_tests_that_are_there():
    for name in ordinary.recorded():
        path = ordinary.RECORD.parents[1] / name.partition("::")[0]
        assert path.exists(), name
