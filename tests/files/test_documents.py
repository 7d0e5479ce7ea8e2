"""Documents that only inform: damaged fields are left out."""

import json

import pytest

from pyama_dask.files.documents import read_fields

TYPES = {"seconds": (int, float), "ended": str, "warnings": list}


def test_fields_of_other_types_and_names_are_left_out(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"seconds": 2.5, "ended": None, "warnings": ["a"], "more": 1}))
    assert read_fields(path, TYPES) == {"seconds": 2.5, "warnings": ["a"]}


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '{"seconds": NaN}', '{"seconds": Infinity}'])
def test_damaged_documents_are_empty(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    assert read_fields(path, TYPES) == {}


def test_a_missing_document_is_empty(tmp_path):
    assert read_fields(tmp_path / "none.json", TYPES) == {}
    assert read_fields(tmp_path, TYPES) == {}
