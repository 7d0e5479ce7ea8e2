"""Methods of other people, tried on synthetic data by a plan: what is wrong is refused, with name and line."""

import re
import signal
import warnings

import numpy as np
import pytest
from support.movies import config
from support.strategies import movie, plan_of

import pyama_dask
from pyama_dask.config.load import as_config
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.morphology import boxes
from pyama_dask.kernels.segmentation import segment
from pyama_dask.runs import method_trial
from pyama_dask.runs.method_trial import LARGEST, PITCH, Made, try_methods
from pyama_dask.runs.planning import plan_run

HEAD = "import warnings\nimport numpy as np\nfrom pyama_dask.kernels.tracking import link\ncalls = []\n\n"
LINE = HEAD.count("\n") + 1
WRAPPER = "@functools.wraps(inner)\ndef f(frame):\n    try:\n        return inner(frame)\n    finally:\n        pass\n"
KEYS = {
    "preprocessor": "params.preprocess",
    "segmenter": "params.segmentation_method",
    "tracker": "params.tracking_method",
    "phase feature": "channels.pc.features",
    "fluorescence feature": "channels.fl.0.features",
}
RIGHT = {
    "preprocessor": "return frame // 2",
    "segmenter": "return (frame > frame.mean()).astype('int64') * 7",
    "tracker": "return link(frame)",
    "phase feature": "return frame.area + frame.covariance[:, 0] / frame.perimeter",
    "fluorescence feature": "return [m > 0 for m in frame.mean + frame.total + frame.maximum + frame.variance]",
}


@pytest.fixture
def known():
    """Results of the trials of a test."""
    return {}


@pytest.fixture
def tried(tmp_path, known):
    """Try a function with a body, or a file, as a method of a kind, in a movie; give the warnings."""

    def attempt(kind, body, *, code=None, parameters=None, metadata=None):
        code = code or f"{HEAD}def f(frame, *, size: int = 3):\n    {body}\n"
        (tmp_path / "plug.py").write_text(code)
        name = f"{tmp_path}/plug.py:f"
        params = {
            "preprocessor": {"preprocess": [name]},
            "segmenter": {"segmentation_method": name, "segmentation_params": parameters or {}},
            "tracker": {"tracking_method": name, "tracking_params": parameters or {}},
        }.get(kind)
        features = {"phase feature": "area", "fluorescence feature": "intensity_mean"}
        features |= {kind: name} if kind in features else {}
        channels = {
            "pc": {"channel": 0, "features": [features["phase feature"]]},
            "fl": [{"channel": 1, "features": [features["fluorescence feature"]]}],
        }
        metadata = metadata or movie()
        return try_methods(plan_of(metadata, params, channels=channels).job.config, metadata, known)

    return attempt


class TestMadeData:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_the_built_in_segmenter_finds_the_cells_that_were_made(self, dtype):
        made = Made.like((2048, 2048), dtype)
        assert (made.frame.shape, made.frame.dtype) == (LARGEST, dtype)
        found = boxes(segment(made.frame))
        found = found[np.lexsort((found // PITCH).T[:2][::-1])]  # by row, then by column
        assert len(found) == len(made.centres) == 12
        assert (np.abs(found - made.boxes[0]) <= 2).all()

    def test_it_is_always_the_same(self):
        assert np.array_equal(Made.like((99, 80), "uint8").frame, Made.like((99, 80), "uint8").frame)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 7), (63, 65), (200, 240)])
    def test_it_is_no_larger_than_the_movie_and_never_without_cells(self, shape):
        made = Made.like(shape, "uint16")
        assert made.frame.shape == (shape[0], min(shape[1], LARGEST[1]))
        first, none, last = made.boxes
        assert len(first) == len(last) > 0 == len(none)
        assert (first[:, :2] >= 0).all()
        assert (first[:, 2:] <= made.frame.shape).all()
        assert [len(of.area) for of in made.shapes] == [len(of.mean) for of in made.intensities] == [len(first), 0]


@pytest.mark.parametrize("kind", KEYS)
class TestEveryKind:
    def test_what_is_right_is_taken_without_a_word(self, tried, kind):
        assert tried(kind, RIGHT[kind]) == []

    @pytest.mark.parametrize("body", ["return None", "return 'cells'", "return [[1], [2, 3]]", "return {}"])
    def test_what_is_no_array_of_its_kind_is_refused_with_key_name_and_line(self, tried, kind, body):
        said = rf"^{KEYS[kind]}, tried on synthetic .*: the {kind} '.*plug\.py:f' \(.*plug\.py, line {LINE}\) returned "
        with pytest.raises(ConfigError, match=said):
            tried(kind, body)

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("return nothing", "NameError: name 'nothing'"),
            ("import no_such_module", "ModuleNotFoundError: "),
            ("from numpy import no_such_name", "ImportError: "),
            ("return eval('1 +')", "SyntaxError: "),
            ("return np.no_such_function(frame)", "AttributeError: module 'numpy'"),
            ("return frame.no_such_attribute", "AttributeError: "),
            ("return np.ones(3, no_such=1)", "TypeError: .*no_such"),
            ("return f()", "TypeError: .*missing 1 required"),
            ("return f(1, 2, 3)", "TypeError: .*positional argument"),
        ],
    )
    def test_what_fails_on_all_data_is_refused_with_its_line(self, tried, kind, body, error):
        with pytest.raises(
            ConfigError, match=rf"^{KEYS[kind]}, .*plug\.py:f' .* failed: {error}.*, in line {LINE + 1}"
        ):
            tried(kind, body)

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ("raise ValueError('dark')", "ValueError: dark"),
            ("raise MemoryError('much')", "MemoryError: much"),
            ("return {}['a']", "KeyError: 'a'"),
            ("return 1 + 'a'", "TypeError: "),
            ("return (3).area", "AttributeError: "),
            ("if frame is None: x = 1\n    return x", "UnboundLocalError: "),
        ],
    )
    def test_what_fails_on_some_data_perhaps_is_a_warning(self, tried, kind, body, error):
        (warning,) = tried(kind, body)
        assert re.match(
            rf"{KEYS[kind]}: could not be tried on synthetic data: the {kind} '.*' .*failed: {error}", warning
        )
        assert ("in line" in warning) == ("MemoryError" not in error)

    def test_what_ends_the_program_is_refused(self, tried, kind):
        with pytest.raises(ConfigError, match="failed: SystemExit"):
            tried(kind, "raise SystemExit(0)")

    def test_the_line_is_that_of_the_function_within_a_wrapper(self, tried, kind):
        code = f"import functools\n\ndef f(frame):\n    return 1 // 0\n\ninner = f\n{WRAPPER}"
        (warning,) = tried(kind, "", code=code)
        assert re.search(r"\(.*plug\.py, line 3\) failed: ZeroDivisionError: .*, in line 4;", warning)

    def test_it_is_tried_once(self, tried, known, kind):
        tried(kind, RIGHT[kind])
        (first,) = known.values()
        tried(kind, RIGHT[kind])
        (second,) = known.values()
        assert second is first
        tried(kind, f"x = 1\n    {RIGHT[kind]}")
        assert len(known) == 2

    def test_what_it_warns_of_is_of_no_frame_that_anybody_took(self, tried, kind):
        with warnings.catch_warnings(action="error"):
            assert tried(kind, f"warnings.warn('dark')\n    {RIGHT[kind]}") == []

    def test_what_it_does_to_its_data_harms_no_other(self, tried, kind):
        assert tried(kind, f"{'frame[:] = 0; ' if kind in ('preprocessor', 'segmenter') else ''}{RIGHT[kind]}") == []


class TestSegmentation:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (
                "return frame.T",
                r"returned uint16 \(240, 200\), but must return whole-number labels of shape \(200, 240\)",
            ),
            ("return frame > 5", "returned bool"),
            (
                "return (frame > 10000).astype('int8') * 2 - 1",
                "returned 2 labels of -1 to 1, but must return 0",
            ),
        ],
    )
    def test_a_segmenter(self, tried, body, said):
        with pytest.raises(ConfigError, match=said):
            tried("segmenter", body)

    def test_a_segmenter_is_given_what_the_preprocessors_make(self, tmp_path):
        (tmp_path / "two.py").write_text(
            "def dim(frame): return (frame // 256).astype('uint8')\n"
            "def cells(frame):\n    assert frame.dtype == 'uint8'\n    return frame\n"
        )
        named = {"segmentation_method": f"{tmp_path}/two.py:cells", "segmentation_params": {}}
        assert (
            try_methods(plan_of(movie(), named | {"preprocess": [f"{tmp_path}/two.py:dim"]}).job.config, movie()) == []
        )
        (warning,) = try_methods(plan_of(movie(), named).job.config, movie())
        assert "AssertionError" in warning

    def test_parameters_are_those_of_the_config(self, tried):
        assert tried("segmenter", "assert size == 5\n    return frame", parameters={"size": 5}) == []
        (warning,) = tried("segmenter", "assert size == 5\n    return frame", parameters={"size": 4})
        assert "AssertionError" in warning


class TestTracker:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("return link(frame)[:2]", "returned 2 arrays, but must return one for each of 3 frames"),
            ("return [ids - 1 for ids in link(frame)]", "data, frame 0: .* returned ids 0 to "),
            ("return [ids // 2 + 1 for ids in link(frame)]", "returned id 2 to several boxes"),
            ("return [ids if len(ids) else None for ids in link(frame)]", "data, frame 1: .* returned object"),
        ],
    )
    def test_ids_that_cannot_be(self, tried, body, said):
        with pytest.raises(ConfigError, match=said):
            tried("tracker", body)

    def test_the_parameters_that_choose_cells_are_not_its_own(self, tried):
        assert (
            tried("tracker", "assert size == 5\n    return link(frame)", parameters={"size": 5, "min_frames": 2}) == []
        )


class TestFeature:
    @pytest.mark.parametrize("kind", ["phase feature", "fluorescence feature"])
    def test_a_frame_without_cells_is_tried_too(self, tried, kind):
        values = {"phase feature": "frame.area", "fluorescence feature": "frame.mean"}[kind]
        with pytest.raises(ConfigError, match=r"returned float64 .*, but must return one number for each of 0 obj"):
            tried(kind, f"return {values} if len({values}) else np.ones(1)")
        (warning,) = tried(kind, f"return {values} / {values}.max()")
        assert "ValueError: zero-size array" in warning


class TestNothing:
    def test_is_tried_of_built_in_methods(self, monkeypatch):
        monkeypatch.setattr(method_trial.Made, "like", None)
        assert try_methods(plan_of(movie()).job.config, movie()) == []

    def test_is_tried_that_the_run_does_not_use(self, tried, tmp_path):
        (tmp_path / "wrong.py").write_text("def f(frame): return None\n")
        unused = {"copy_only": True, "segmentation_method": f"{tmp_path}/wrong.py:f", "segmentation_params": {}}
        assert try_methods(plan_of(movie(), unused).job.config, movie()) == []


class TestRuns:
    @pytest.fixture
    def changes(self, tmp_path):
        def named(body):
            (tmp_path / "plug.py").write_text(f"def f(frame):\n    {body}\n")
            return {"params.segmentation_method": f"{tmp_path}/plug.py:f", "params.segmentation_params": {}}

        return named

    def test_a_wrong_return_ends_a_run_before_it_writes(self, small_czi, tmp_path, changes):
        document = config(small_czi, tmp_path / "out", changes("return frame / 2"))
        for plan in (plan_run, pyama_dask.run):
            with pytest.raises(
                ConfigError, match=r"returned float64 \(200, 240\), but must return whole-number labels"
            ):
                plan(as_config(document))
        assert not (tmp_path / "out").exists()

    def test_a_warning_reaches_plan_log_and_report(self, small_czi, tmp_path, changes):
        document = config(small_czi, tmp_path / "out", changes("raise ValueError('odd')"))
        made, _ = plan_run(as_config(document))
        (warning,) = [said for said in made.warnings if "could not be tried" in said]
        assert "ValueError: odd" in warning
        report = pyama_dask.run(document)
        assert warning in report.warnings
        assert [fov.status for fov in report.fovs] == ["failed", "failed"]
        assert warning in (tmp_path / "out" / ".pyama_dask" / "log.txt").read_text()


ENDINGS = {
    "raise SystemExit('x' * 5_000_000)": "SystemExit: xxx",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "import os; os._exit(7)": r"SystemExit: os\._exit\(7\)",
}


@pytest.mark.parametrize("body", ENDINGS)
def test_a_method_that_ends_the_program_is_named(body, tried, monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda _: None)  # as in a run, where Ctrl-C raises nothing
    with pytest.raises(ConfigError, match=f"segmenter '.*plug.py:f' .*failed: {ENDINGS[body]}") as error:
        tried("segmenter", body)
    assert len(str(error.value)) < 2000


def test_ctrl_c_in_a_trial_is_the_users(tried):
    with pytest.raises(KeyboardInterrupt):
        tried("segmenter", "raise KeyboardInterrupt")


class TestFeaturesOfOneCell:
    @pytest.mark.parametrize("kind", ["phase feature", "fluorescence feature"])
    def test_right_ones_and_wrong_ones(self, tried, kind):
        def said(value):
            return tried(kind, "", code=f"{HEAD}def f(image, mask, context):\n    return {value}\n")

        assert said("image[mask].mean() - context.background[mask].mean()") == []
        with pytest.raises(ConfigError, match="has no attribute 'channel', in line"):
            said("context.channel")
        with pytest.raises(ConfigError, match=r"returned .*, but must return one number for each of 9 objects"):
            said("image[:2, :2]")
