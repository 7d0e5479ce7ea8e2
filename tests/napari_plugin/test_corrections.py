"""Corrected labels of single frames, saved where training reads them."""

import numpy as np
import pytest

from pyama_dask.analysis.fov import Fov
from pyama_dask.errors import OutputError
from pyama_dask.files.images import read_pixel_size
from pyama_dask.napari.corrections import labels_to_correct, save_corrected
from pyama_dask.training.annotated import read_annotated


@pytest.fixture
def fov(finished):
    return Fov(finished / "fov_000")


def test_labels_begin_as_they_were_segmented_and_can_be_painted_in(fov):
    labels = labels_to_correct(fov, 3)
    assert np.array_equal(labels, np.asarray(fov.image("seg_labeled_ch_0").data[3]))
    labels[:5, :5] = labels.max() + 1


def test_training_reads_what_is_saved(fov, tmp_path):
    labels = labels_to_correct(fov, 3)
    labels[labels == 1] = 0
    labels[:9, :9] = 100_000
    path = save_corrected(fov, 3, labels, tmp_path / "training")
    assert path.name == "movie_fov000_t0003_y0000_x0000_labels.tif"
    (found,) = read_annotated([tmp_path / "training"])
    assert np.array_equal(found.frame, np.asarray(fov.image("pc_ch_0").data[3]))
    assert found.labels.max() == len(np.unique(labels)) - 1
    assert np.array_equal(found.labels == found.labels[0, 0], labels == 100_000)
    assert read_pixel_size(path) == pytest.approx(0.65)


def test_labels_that_are_there_are_replaced_only_if_asked(fov, tmp_path):
    labels = labels_to_correct(fov, 0)
    path = save_corrected(fov, 0, labels, tmp_path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"already exists\. Fix: "):
        save_corrected(fov, 0, labels * 0, tmp_path)
    assert path.read_bytes() == before
    save_corrected(fov, 0, np.where(labels == 1, 0, labels), tmp_path, replace=True)
    assert path.read_bytes() != before


def test_a_folder_that_cannot_be_written_is_one_message(fov, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Fix: "):
        save_corrected(fov, 0, labels_to_correct(fov, 0), tmp_path / "file" / "training")
