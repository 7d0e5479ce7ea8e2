"""The oracle of the tests is the one that the project's definitions are kept in."""

import ast
from pathlib import Path

import pytest

from support import reference

ORIGINAL = Path(__file__).parents[3] / "shared" / "reference" / "reference.py"


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the original definitions are not beside this checkout")
def test_oracle_is_the_original():
    here, original = (ast.dump(ast.parse(path.read_text())) for path in (Path(reference.__file__), ORIGINAL))
    assert here == original
