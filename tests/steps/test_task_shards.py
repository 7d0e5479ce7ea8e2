"""Shards that a task reads are as they were recorded, or what it has made does not count."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.shards import write_block

from pyama_dask.errors import DamagedError, StoreError
from pyama_dask.files.checksums import checksum
from pyama_dask.steps.runner import undamaged_inputs
from pyama_dask.steps.task_shards import TaskShards
from pyama_dask.store.layout import ArraySpec

SPEC = ArraySpec("pc_ch_0", "raw", 0, (4, 30, 40), "uint16", 4, "none")


@pytest.fixture
def file(tmp_path):
    return write_block(tmp_path, SPEC, 0, np.arange(4800, dtype=np.uint16).reshape(SPEC.shape))


def shards(output, inputs):
    """Shards of a task that may read these files."""
    job = SimpleNamespace(output=output, direct_io=False)
    recorded = {file.relative_to(output).as_posix(): checksum(file) for file in inputs}
    return TaskShards(SimpleNamespace(inputs=recorded), job)


def read(opened, output, *frames):
    out = np.empty((1, *SPEC.shape[1:]), np.uint16)
    with undamaged_inputs(SimpleNamespace(shards=opened)):
        for frame in frames:
            opened.read(output, SPEC, frame, out)


def test_what_is_recorded_is_read(tmp_path, file):
    for frames in ((0, 1, 2, 3), (2,), (3, 0)):
        read(shards(tmp_path, [file]), tmp_path, *frames)


def test_what_is_not_recorded_is_damaged(tmp_path, file):
    with pytest.raises(DamagedError, match=r"c\.0\.0\.0: is missing") as raised:
        read(shards(tmp_path, []), tmp_path, 0)
    assert raised.value.path == file.relative_to(tmp_path).as_posix()


def test_a_fault_of_a_moment_counts(tmp_path, file):
    """The disk, or the memory, has given other bytes once; now the file is as it was recorded."""
    opened, content = shards(tmp_path, [file]), file.read_bytes()
    file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    for frame in range(4):
        opened.read(tmp_path, SPEC, frame, np.empty((1, *SPEC.shape[1:]), np.uint16))
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="was read with other bytes than recorded"):
        opened.check()


def test_a_file_that_is_gone_is_damaged(tmp_path, file):
    opened = shards(tmp_path, [file])
    file.unlink()
    with pytest.raises(StoreError, match="is missing"):
        read(opened, tmp_path, 0)
