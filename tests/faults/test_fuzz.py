"""A short form of the fuzzing that `chaos.fuzz` does at length."""

import pytest
from chaos.fuzz import fuzz_configs, fuzz_readers

pytestmark = pytest.mark.usefixtures("isolated")


def test_damaged_configs_work_or_are_refused():
    found = fuzz_configs(300, seed=0)
    assert found.findings == []
    assert found.outcomes.total() == 300
    assert min(found.outcomes[kind] for kind in ("works", "refused")) > 10


@pytest.mark.slow
def test_damaged_movies_work_or_are_refused():
    found = fuzz_readers(24, seed=0)
    assert found.findings == []
    assert found.outcomes.total() == 24
    assert found.outcomes["works"] > 0
    assert found.outcomes["metadata refused"] > 0
