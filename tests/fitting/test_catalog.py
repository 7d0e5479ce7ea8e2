"""Models of other people: found by name, tried before they fit anything, and refused with their line."""

import numpy as np
import pytest

from pyama_dask.errors import ConfigError
from pyama_dask.fitting import MODELS, Model, NumericSlopes, Parameter, find_model, fit_cells, known_models
from pyama_dask.fitting.catalog import model_identity

LOGISTIC = """
import numpy as np

from pyama_dask.fitting import Model, NumericSlopes, Parameter


def logistic(times, parameters):
    top, rate, middle = parameters.T[:, :, None]
    return top / (1 + np.exp(-rate * (times - middle)))


def by_hand(times, parameters, wanted):
    top, rate, middle = parameters.T[:, :, None]
    share = 1 / (1 + np.exp(-rate * (times - middle)))
    bend = top * share * (1 - share)
    return np.stack([share, bend * (times - middle), -bend * rate], axis=1)[:, wanted]


PARAMETERS = (
    Parameter("top", 100.0, 1.0, 1e6, "", linear=True),
    Parameter("rate", 1.0, 1e-3, 1e2, "1/h"),
    Parameter("middle", 10.0, 0.0, 100.0, "h"),
)
LOGISTIC = Model("logistic", "Verhulst 1838", PARAMETERS, logistic, NumericSlopes(logistic))
BY_HAND = Model("logistic", "Verhulst 1838", PARAMETERS, logistic, by_hand)
"""
HOURS = np.arange(120) / 6


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "growth.py"
    path.write_text(LOGISTIC)
    return path


@pytest.mark.parametrize("name", ["LOGISTIC", "BY_HAND"])
def test_a_model_in_a_file_is_fitted(file, name):
    model = find_model(f"{file}:{name}")
    truth = np.array([[500.0, 0.8, 9.0], [2000.0, 0.5, 12.0]])
    fits = fit_cells(HOURS, model.curve(HOURS[None], truth), model)
    assert fits.success.all()
    np.testing.assert_allclose(fits.parameters, truth, rtol=1e-5)


def test_numeric_derivatives_are_near_those_by_hand(file):
    numeric, by_hand = find_model(f"{file}:LOGISTIC"), find_model(f"{file}:BY_HAND")
    truth, every = np.array([[500.0, 0.8, 9.0]]), np.arange(3)
    np.testing.assert_allclose(
        numeric.slopes(HOURS[None], truth, every), by_hand.slopes(HOURS[None], truth, every), rtol=1e-6, atol=1e-6
    )


def test_what_is_in_the_file_is_part_of_its_identity(file):
    before = model_identity(f"{file}:LOGISTIC")
    file.write_text(LOGISTIC + "# more\n")
    assert model_identity(f"{file}:LOGISTIC") != before
    assert model_identity("maturation") == "maturation"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("LOGISTIC = 3", "is of type int, but must be a pyama_dask.fitting.Model"),
        ("def logistic(t): return t", r"its curve \(.*growth\.py, line \d+\) fails: TypeError"),
        ("def logistic(t, p): return p", r"its curve .*line \d+\) returns an array \(2, 3\), but must"),
        ("def logistic(t, p): return np.full((2, 24), np.nan)", r"is not finite at its start values"),
        ("def by_hand(t, p, wanted): return np.zeros((2, len(wanted), 24))", r"its slopes .*line \d+\) by .top. are"),
        ("def by_hand(t, p, wanted): return np.zeros((2, 24))", r"its slopes .* returns an array \(2, 24\), but"),
        ("def logistic(t, p): t += 1; return p[:, :1] * t", r"its curve .*line \d+\) changes the arrays that"),
        ("def logistic(t, p): p[:] = 1; return p[:, :1] * t", r"its curve .* changes the arrays that it is given"),
        ("def logistic(t, p): return p[:, :1] * t * 1j", r"its curve .* fails: TypeError"),
        ("PARAMETERS = ()", "cannot be loaded|its curve .* fails"),
        ("PARAMETERS = (PARAMETERS[0],) * 3", "cannot be loaded: ConfigError: .*two parameters have the same name"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_its_line(tmp_path, more, said):
    head, tail = LOGISTIC.split("LOGISTIC =")
    path = tmp_path / "growth.py"
    path.write_text(f"{head}LOGISTIC = 0\n{more}\n" + ("" if more.startswith("LOGISTIC") else f"LOGISTIC ={tail}"))
    name = "BY_HAND" if "by_hand" in more else "LOGISTIC"
    with pytest.raises(ConfigError, match=said):
        find_model(f"{path}:{name}")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("raise ValueError('too hot')", r"fails: ValueError: too hot"),
        ("raise SystemExit(5)", r"fails: SystemExit: 5"),
        ("return times", r"returns an array \(1, 120\), but must return \(2, 120\)"),
    ],
)
def test_one_that_breaks_while_it_fits_is_named_with_its_line(tmp_path, breaks, said):
    path = tmp_path / "growth.py"
    inner = f"    if times.shape[1] == 120:\n        {breaks}\n    top, rate"
    path.write_text(LOGISTIC.replace("    top, rate", inner, 1))
    model = find_model(f"{path}:LOGISTIC")
    with pytest.raises(ConfigError, match=rf"'logistic': its curve \(.*growth\.py, line \d+\) {said}"):
        fit_cells(HOURS, np.ones((2, 120)), model)


def test_one_that_is_not_there():
    with pytest.raises(ConfigError, match=r"'logistics' is not a model; known are: maturation, .*\. Fix: use one"):
        find_model("logistics")
    with pytest.raises(ConfigError, match=r"'two-rate-onset' is not .*; did you mean two_rate_onset\?"):
        find_model("two-rate-onset")


def test_one_that_is_not_in_its_file(file):
    message = r"growth\.py:LOGISTICS' cannot be loaded: .*growth\.py has no 'LOGISTICS'; did you mean LOGISTIC\?$"
    with pytest.raises(ConfigError, match=message):
        find_model(f"{file}:LOGISTICS")


def test_the_models_of_this_package_are_listed():
    assert known_models() == dict.fromkeys(MODELS, "pyama_dask")


def test_names_are_words():
    with pytest.raises(ConfigError, match="must consist of letters"):
        Model("two words", "", (Parameter("a", 0, 0, 1, ""),), np.add, NumericSlopes(np.add))
