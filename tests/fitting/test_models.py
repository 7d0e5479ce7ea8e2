"""Models of traces: their formulas to many digits, their limits, and their derivatives."""

import decimal
import itertools
import pickle
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.errors import ConfigError
from pyama_dask.fitting.catalog import MODELS, find_model
from pyama_dask.fitting.maturation import mean3, mean4
from pyama_dask.fitting.models import Parameter

TIMES = np.array([[-1.5, -0.25, 0.0, 1e-6, 1e-3, 0.02, 0.3, 0.49, 0.51, 1.0, 2.5, 6.0, 11.0, 30.0, 72.0]])
DIGITS = decimal.Context(prec=250)
BETA, KM = 5.22e-3, 1.28


def decades(low, high):
    return st.floats(np.log10(low), np.log10(high)).map(lambda power: float(10**power))


def near(rate):
    """The rate itself, and rates that are nearer and nearer to it."""
    return st.one_of(
        st.just(rate),
        st.builds(lambda power, sign: rate * (1 + sign * 10.0**power), st.floats(-16, -1), st.sampled_from([-1, 1])),
    )


def rates():
    """km, beta, delta; the third equal to one that it is subtracted from, near it, or far."""

    def with_delta(pair):
        km, beta = pair
        return st.tuples(st.just(km), st.just(beta), st.one_of(decades(1e-5, 11), near(beta), near(beta + km)))

    return st.tuples(decades(1e-4, 30), decades(1e-5, 10)).flatmap(with_delta)


def bracket(d, km, beta, delta):
    """The textbook formula with 250 digits; equal rates are moved apart by 1e-40."""
    with decimal.localcontext(DIGITS):
        d, km, beta, delta = map(Decimal, (d, km, beta, delta))
        if d <= 0:
            return Decimal(0)
        if delta in (beta, beta + km):
            delta += Decimal("1e-40")
        a, b = beta - delta + km, beta - delta
        return (-(beta + km) * d).exp() / a - (-beta * d).exp() / b + km * (-delta * d).exp() / (b * a)


def draw_parameters(model, rng, cells):
    """Random parameters within the bounds, those over many decades in their logarithm."""
    columns = []
    for p in model.parameters:
        low, high = max(p.low, -1e6), min(p.high, 1e6)
        wide = low > 0 and high / low > 100
        columns.append(10 ** rng.uniform(*np.log10((low, high)), cells) if wide else rng.uniform(low, high, cells))
    return np.stack(columns, axis=1)


# ---------------------------------------------------------------------------------------------- maturation


@given(rates(), decades(1e-6, 80))
def test_maturation_is_the_textbook_formula_to_twelve_digits(rates, d):
    km, beta, delta = rates
    found = MODELS["maturation"].curve(np.array([[d]]), np.array([[0.0, 1.0, delta, 0.0, km, beta, 1.0]]))[0, 0]
    exact = bracket(d, km, beta, delta)
    # an exponent that is large is known to fewer digits itself
    assert abs(Decimal(float(found)) - exact) <= exact * Decimal("1e-12") + Decimal("1e-300")


@given(decades(1e-3, 80), decades(1e-6, 1e-1))
def test_maturation_goes_through_equal_rates_without_a_jump(d, apart):
    model = MODELS["maturation"]
    for rate in (BETA, BETA + KM):
        deltas = rate * np.array([1 - apart, 1 - 1e-14, 1.0, 1 + 1e-14, 1 + apart])
        parameters = np.stack([[0.0, 1.0, delta, 0.0, KM, BETA, 1.0] for delta in deltas])
        values = model.curve(np.array([[d]]), parameters)[:, 0]
        slopes = model.slopes(np.array([[d]]), parameters, np.array([2]))[:, 0, 0]
        assert np.ptp(values[1:4]) <= 1e-11 * values[2]
        assert np.ptp(slopes[1:4]) <= 1e-11 * abs(slopes[2])
        assert (np.diff(values) <= 1e-14 * values[2]).all()  # more decay, less fluorescence
        assert (slopes < 0).all()


def test_limit_of_equal_rates_is_the_one_on_paper():
    d, b, k = 7.0, BETA, KM
    parameters = np.array([[0.0, 1.0, b, 0.0, k, b, 1.0]])
    on_paper = np.exp(-b * d) * (k * d + np.expm1(-k * d)) / k
    assert MODELS["maturation"].curve(np.array([[d]]), parameters)[0, 0] == pytest.approx(on_paper, rel=1e-14)


@pytest.mark.parametrize("again", [0, 1, 2])
@given(numbers=st.tuples(*[st.floats(0, 60)] * 3), shrink=decades(1e-9, 1))
def test_divided_differences_are_exact_at_any_distance(again, numbers, shrink):
    x = [numbers[0], *(numbers[0] + (number - numbers[0]) * shrink for number in numbers[1:])]
    with decimal.localcontext(DIGITS):
        nodes = [Decimal(v) + k * Decimal("1e-40") for k, v in enumerate([*x, x[again]])]
        differences = [(-node).exp() for node in nodes]
        exact = []
        for order in (1, 2, 3):
            rises = [b - a for a, b in itertools.pairwise(differences)]
            differences = [rise / (nodes[k + order] - nodes[k]) for k, rise in enumerate(rises)]
            exact.append(float(differences[0]))
    assert mean3(*x) == pytest.approx(exact[1], rel=1e-12)
    assert mean4(*x, x[again]) == pytest.approx(-exact[2], rel=1e-12)


# ---------------------------------------------------------------------------------------------- all models


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 2**32 - 1))
def test_slopes_are_those_of_the_curve(name, seed):
    model = MODELS[name]
    parameters = draw_parameters(model, np.random.default_rng(seed), 5)
    everything = np.arange(len(model.names))
    slopes = model.slopes(TIMES, parameters, everything)
    assert slopes.shape == (5, len(everything), TIMES.size)
    for place in everything:
        step = np.maximum(np.abs(parameters[:, place]), 1e-3) * 1e-5
        ends = []
        for side in (-2, -1, 1, 2):
            moved = parameters.copy()
            moved[:, place] += side * step
            ends.append(model.curve(TIMES, moved))
        across = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step[:, None])
        smooth = np.ones_like(across, bool)
        if "t0" in model.names:  # where the onset is within the difference there is no derivative to compare with
            smooth = np.abs(TIMES - parameters[:, :1]) > (2 * step[:, None] if place == 0 else 0)
        size = np.abs(np.stack(ends)).max(0)
        if "offset" in model.names:  # which may cancel the rest
            size = size + np.abs(parameters[:, model.names.index("offset")])[:, None]
        rounding = 2e-13 * size / step[:, None]  # exponents of hundreds have lost digits
        close = np.abs(slopes[:, place] - across) <= 1e-5 * np.abs(across) + rounding + 1e-280
        assert close[smooth].all()


@pytest.mark.parametrize("name", MODELS)
def test_slopes_of_some_parameters_are_those_of_all(name):
    model = MODELS[name]
    parameters = draw_parameters(model, np.random.default_rng(0), 4)
    everything = np.arange(len(model.names))
    slopes = model.slopes(TIMES, parameters, everything)
    for wanted in (everything[::-1], model.fitted, everything[:1], everything[:0]):
        np.testing.assert_array_equal(model.slopes(TIMES, parameters, wanted), slopes[:, wanted])


@pytest.mark.parametrize("name", MODELS)
def test_each_cell_may_have_times_of_its_own(name):
    model = MODELS[name]
    rng = np.random.default_rng(1)
    parameters = draw_parameters(model, rng, 6)
    times = rng.uniform(-1, 40, (6, 9))
    everything = np.arange(len(model.names))
    values, slopes = model.curve(times, parameters), model.slopes(times, parameters, everything)
    for n in range(6):
        np.testing.assert_array_equal(values[n], model.curve(times[n : n + 1], parameters[n : n + 1])[0])
        np.testing.assert_array_equal(slopes[n], model.slopes(times[n : n + 1], parameters[n : n + 1], everything)[0])


@pytest.mark.parametrize("name", ["maturation", "two_rate_onset"])
def test_nothing_but_the_offset_before_onset(name):
    model = MODELS[name]
    parameters = draw_parameters(model, np.random.default_rng(2), 50)
    place = dict(zip(model.names, parameters.T, strict=True))
    before = place["t0"][:, None] - np.array([50.0, 1.0, 1e-9, 0.0])
    expected = place["offset"] * place.get("scale", 1.0)
    np.testing.assert_allclose(model.curve(before, parameters), np.tile(expected[:, None], 4), rtol=1e-15)
    slopes = model.slopes(before, parameters, np.arange(len(model.names)))
    for k, name_of in enumerate(model.names):
        assert (slopes[:, k] == 0).all() or name_of in ("offset", "scale")


@pytest.mark.parametrize("name", MODELS)
def test_linear_parameters_are_linear(name):
    model = MODELS[name]
    linear = np.array([p.linear for p in model.parameters])
    rng = np.random.default_rng(3)
    one, other = (draw_parameters(model, rng, 3) for _ in range(2))
    other[:, ~linear] = one[:, ~linear]
    both = model.curve(TIMES, (one + other) / 2)
    np.testing.assert_allclose(both, (model.curve(TIMES, one) + model.curve(TIMES, other)) / 2, rtol=1e-12, atol=1e-9)


# ---------------------------------------------------------------------------------------------- as data


def test_the_numbers_of_maturation_are_those_agreed_on():
    found = {p.name: (p.default, p.low, p.high, p.fixed) for p in MODELS["maturation"].parameters}
    assert {name: p[0] for name, p in found.items() if p[3]} == {"km": 1.28, "beta": 5.22e-3, "scale": 1.0}
    assert {name: p[:3] for name, p in found.items() if not p[3]} == {
        "t0": (0.0, -1.0, 1.0),
        "ktl": (1e3, 1.0, 5e8),
        "delta": (1e-2, 1e-5, 11.0),
        "offset": (0.0, -1e6, 1e6),
    }


def test_models_are_found_by_name_and_others_refused():
    assert find_model("trivial") is MODELS["trivial"]
    assert all(model.name == name and model.source for name, model in MODELS.items())
    with pytest.raises(ConfigError, match=r"'linear' is not a model; known are: maturation, .*two_rate_onset"):
        find_model("linear")


def test_a_model_is_changed_by_name_of_parameter():
    model = MODELS["maturation"].changed({"delta": {"default": 0.2, "fixed": True}, "t0": {"high": 5.0}})
    assert [model.names[place] for place in model.fitted] == ["t0", "ktl", "offset"]
    assert model.parameters[0].high == 5.0
    assert MODELS["maturation"].parameters[0].high == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gamma": {"default": 1.0}}, "maturation has no parameter 'gamma'; it has: t0, ktl"),
        ({"t0": {"default": 2.0}}, "t0: 2 must be a number from -1 to 1"),
        ({"t0": {"default": float("nan")}}, "t0: nan must be a number"),
        ({"t0": {"high": float("inf")}}, "t0: 0 must be a number from -1 to inf"),
        ({"t0": {"low": 0.5}}, "t0: 0 must be a number from 0.5 to 1. Fix: change its start or the bounds"),
        ({"t0": {"low": 3.0}}, "t0: its low 3 is above its high 1"),
        ({"t0": {"low": 0.0, "high": 0.0}}, "t0: both bounds are 0. Fix: set it to fixed"),
    ],
)
def test_what_a_parameter_cannot_be_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        MODELS["maturation"].changed(changes)


def test_a_fixed_parameter_needs_no_room():
    assert Parameter("k", 2.0, 2.0, 2.0, "1/h", fixed=True).default == 2.0


@pytest.mark.parametrize("name", MODELS)
def test_models_can_be_sent_to_workers(name):
    assert pickle.loads(pickle.dumps(MODELS[name])) == MODELS[name]
