import pytest

from pyama_dask.previews import preview


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Types for which a preview has the kernels compiled; here, each loop is compiled when it is used."""
    types = []
    monkeypatch.setattr(preview, "compile_kernels", lambda given, *_: types.append(given))
    return types
