"""Features of one cell, titles of features, and preprocessors with a method `process`."""

import numpy as np
import pytest
from support.configs import resolved

from pyama_dask.config.function_names import title_and_name
from pyama_dask.config.load import load_config
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.features import Intensities, Pixels, Shapes
from pyama_dask.methods.objects import looks_at_pixels, of_one_cell
from pyama_dask.methods.registry import find_method, is_plugin, method_identity
from pyama_dask.store.trace_csv import feature_columns

PLUGIN = """
import numpy as np


def bright(image, mask, context):
    image[~mask] = 0
    return image.sum() - context.background_weight * context.background[mask].sum()


def top(ctx):
    return ctx.box[0]


class Halved:
    def __init__(self, by=2):
        self.by = by

    def process(self, image):
        return image // self.by


class Needs:
    def __init__(self, by):
        self.by = by

    def process(self, image):
        return image


QUARTERED = Halved(4)
"""

FRAME = np.arange(30, dtype=np.uint16).reshape(5, 6)
LABELS = np.zeros((5, 6), np.uint16)
LABELS[1:3, 1:4], LABELS[4, 5], LABELS[1, 1] = 1, 2, 0
BOXES = np.array([[1, 1, 3, 4], [4, 5, 5, 6]])


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "plug.py").write_text(PLUGIN)
    return f"{tmp_path}/plug.py"


def intensities(pixels):
    none = np.empty(0)
    return Intensities(none, none, none, none, pixels)


class TestFeaturesOfOneCell:
    def test_image_and_mask_are_those_of_the_box(self, plugin):
        before = FRAME.copy()
        background = np.full(FRAME.shape, 2.0, np.float32)
        found = find_method("fluorescence feature", f"{plugin}:bright")(
            intensities(Pixels(FRAME, LABELS, BOXES, background, 0.5))
        )
        assert found.tolist() == [8 + 9 + 13 + 14 + 15 - 5, 29 - 1]
        assert (before == FRAME).all()  # the function changes a copy

    def test_phase_contrast_has_no_background(self, plugin):
        none = np.empty(0)
        shapes = Shapes(none, none, none, Pixels(FRAME, LABELS, BOXES))
        assert find_method("phase feature", f"{plugin}:bright")(shapes).tolist() == [59, 29]

    def test_the_context_alone(self, plugin):
        found = find_method("phase feature", f"{plugin}:top")
        assert found(intensities(Pixels(FRAME, LABELS, BOXES))).tolist() == [1, 4]

    def test_a_frame_without_cells(self, plugin):
        found = find_method("phase feature", f"{plugin}:top")
        assert found(intensities(Pixels(FRAME, LABELS * 0, BOXES[:0]))).shape == (0,)

    @pytest.mark.parametrize(
        ("function", "is_one"),
        [
            (lambda image, mask, context: 0, True),
            (lambda image, mask, context, *, sigma=2: 0, True),
            (lambda ctx: 0, True),
            (lambda shapes: 0, False),
            (lambda shapes, *, power=2: 0, False),
            (np.add, False),
        ],
    )
    def test_which_functions_they_are(self, function, is_one):
        found = of_one_cell(function)
        assert (found is not None) is is_one
        assert looks_at_pixels(found) is is_one

    def test_an_annotation_of_the_context(self):
        def f(cell: "ExtractionContext") -> float:  # noqa: F821  (imported by the program that it was written for)
            return 0.0

        assert looks_at_pixels(of_one_cell(f))


class TestTitles:
    def test_a_title_names_columns(self, plugin):
        named = f"glow = {plugin}:bright"
        assert title_and_name(named) == ("glow", f"{plugin}:bright")
        assert title_and_name("a=b/plug.py:f") == ("f", "a=b/plug.py:f")
        config = resolved(channels={"pc": {"channel": 0, "features": ["area", named, f"{plugin}:top"]}})
        assert feature_columns(config) == ["area_ch_0", "glow_ch_0", "top_ch_0"]

    def test_it_belongs_to_the_identity(self, plugin):
        plain, titled = (method_identity("phase feature", of) for of in (f"{plugin}:top", f"high = {plugin}:top"))
        assert titled == f"high = {plain}"
        assert is_plugin("phase feature", f"high = {plugin}:top")
        assert not is_plugin("phase feature", "size = area")

    def test_two_equal_ones_are_refused(self, plugin):
        with pytest.raises(ConfigError, match="feature 'area' is chosen twice for channel 0"):
            resolved(channels={"pc": {"channel": 0, "features": ["area", f"area = {plugin}:top"]}})

    def test_files_are_beside_the_config(self, plugin, tmp_path):
        (tmp_path / "run.yaml").write_text(
            "input: a.nd2\noutput: out\nchannels: {pc: {channel: 0, features: [area, 'high = plug.py:top']}}\n"
        )
        assert load_config(tmp_path / "run.yaml").channels.pc.features == ("area", f"high = {plugin}:top")


class TestPreprocessors:
    @pytest.mark.parametrize(("name", "divisor"), [("Halved", 2), ("QUARTERED", 4)])
    def test_a_class_or_an_object(self, plugin, name, divisor):
        assert (find_method("preprocessor", f"{plugin}:{name}")(FRAME) == FRAME // divisor).all()

    def test_a_class_that_needs_parameters(self, plugin):
        with pytest.raises(
            ConfigError, match=r"plug.py:Needs': no Needs can be made: .*'by'\. Fix: give all parameters"
        ):
            find_method("preprocessor", f"{plugin}:Needs")
