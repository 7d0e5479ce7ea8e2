import numpy as np

from pyama_dask.methods.onnx_model import ModelCard
from pyama_dask.training import picture
from pyama_dask.training.calibrate import Judged

TRUTH = np.zeros((8, 40), np.int32)
TRUTH[2:6] = np.arange(40) // 8 + 1


def judged(name, found):
    """Image with five cells of which some are found."""
    labels = np.where(found >= TRUTH, TRUTH, 0).astype(np.uint16)
    return Judged(name, TRUTH.astype(np.float32), TRUTH, TRUTH >= 0, lambda _: labels)


def test_of_many_images_the_worst_to_the_best_with_cells_are_shown(monkeypatch):
    images = [judged(str(found), found) for found in (3, 0, 5, 1, 4, 2)]
    empty = Judged("empty", np.zeros((8, 40), np.float32), TRUTH * 0, TRUTH >= 0, lambda _: TRUTH.astype(np.uint16))
    shown = picture._evenly([empty, *images], ModelCard())
    assert [one.name for one in shown] == ["0", "2", "3", "5"]
    assert picture._evenly(images[:4], ModelCard()) == images[:4]
    drawn = []
    monkeypatch.setattr(picture, "_drawn", lambda part, _: drawn.append(part.name) or np.zeros((8, 40, 3)))
    assert picture.held_back_picture([empty, *images], ModelCard()).startswith(b"\x89PNG")
    assert drawn == ["0", "2", "3", "5"]
