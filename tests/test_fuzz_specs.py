"""What people type at random never gives a traceback; the fuzzer by hand: fuzz_specs.py."""

from __future__ import annotations

import pytest
from fuzz_specs import fuzz


@pytest.mark.parametrize("seed", [0, 1])
def test_random_specs_and_recipes_are_taken_or_refused(seed):
    answers, wrong = fuzz(250, seed)
    assert not wrong, "\n".join(wrong)
    assert answers["spec"] > 20
    assert answers["refused"] > 20
