"""Fits of many traces: as good as scipy's, the truth within the errors, and a row for whatever a trace is like."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize

from pyama_dask.errors import ConfigError
from pyama_dask.fitting.catalog import MODELS
from pyama_dask.fitting.least_squares import AT_ONCE, Limits, fit_cells
from pyama_dask.fitting.models import Model, Parameter

HOURS = np.linspace(0, 30, 180)
MATURATION = MODELS["maturation"]
seeds = st.integers(0, 2**32 - 1)


def maturation_traces(cells, noise, seed):
    """Values and true parameters of cells that are lit within an hour; noise relative to the height."""
    rng = np.random.default_rng(seed)
    truth = np.tile([p.default for p in MATURATION.parameters], (cells, 1))
    truth[:, 0] = rng.uniform(0, 0.8, cells)
    truth[:, 1] = 10 ** rng.uniform(2, 6, cells)
    truth[:, 2] = 10 ** rng.uniform(-2, -0.3, cells)
    truth[:, 3] = truth[:, 1] * rng.uniform(0, 0.5, cells)
    clean = MATURATION.curve(HOURS[None], truth)
    height = np.ptp(clean, axis=1, keepdims=True)
    return clean + noise * height * rng.normal(size=clean.shape), truth


def traces(name, cells, seed, outliers=0.0):
    """Values of cells of any model, with noise of 2 % and some outliers."""
    rng = np.random.default_rng(seed)
    if name == "maturation":
        values = maturation_traces(cells, 0.02, seed)[0]
    else:
        draws = {
            "trivial": ((-100, 100), (-10, 10)),
            "exponential_decay": ((100, 1e4), (0.03, 2), (-100, 100)),
            "two_rate_onset": ((1, 20), (100, 1e4), (0.2, 3), (0.0, 0.1), (-100, 100)),
        }[name]
        parameters = np.stack([rng.uniform(*limits, cells) for limits in draws], axis=1)
        values = MODELS[name].curve(HOURS[None], parameters)
        values += 0.02 * np.ptp(values, axis=1, keepdims=True) * rng.normal(size=values.shape)
    height = np.ptp(values, axis=1, keepdims=True)
    return values + height * np.where(rng.random(values.shape) < outliers, rng.uniform(-1, 1, values.shape), 0)


def bounds_of(model):
    fitted = [model.parameters[place] for place in model.fitted]
    return np.array([p.low for p in fitted]), np.array([p.high for p in fitted])


def residuals(model, times, values):
    """Function of the fitted parameters, for scipy."""
    row = np.array([p.default for p in model.parameters])

    def of(found):
        row[model.fitted] = found
        return model.curve(times[None], row[None])[0] - values

    return of


def cost_of(residual, loss, scale):
    return (
        (residual**2 / (1 + np.sqrt(1 + (residual / scale) ** 2))).sum()
        if loss == "soft_l1"
        else residual @ residual / 2
    )


def assert_same(one, other):
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


# ---------------------------------------------------------------------------------------------- as scipy


@pytest.mark.parametrize("loss", ["linear", "soft_l1"])
@pytest.mark.parametrize("name", MODELS)
def test_no_cost_is_above_scipys(name, loss):
    model = MODELS[name]
    values = traces(name, 12, seed=5, outliers=0.03)
    start = np.array([model.parameters[place].default for place in model.fitted])
    for n in range(len(values)):
        scale = 0.02 * np.ptp(values[n])
        fits = fit_cells(HOURS, values[n : n + 1], model, loss=loss, loss_scale=scale)
        assert fits.success[0]
        residual, found = residuals(model, HOURS, values[n]), fits.parameters[0, model.fitted]
        theirs = optimize.least_squares(
            residual, start, bounds=bounds_of(model), loss=loss, f_scale=scale, x_scale="jac", max_nfev=500
        )
        ours = cost_of(residual(found), loss, scale)
        assert ours <= theirs.cost * (1 + 1e-6)
        if ours > theirs.cost * (1 - 1e-6):  # the same minimum, as exactly as the data say where it is
            off = np.abs(found - theirs.x)
            assert (off <= 1e-3 * np.abs(theirs.x) + 0.1 * np.nan_to_num(fits.errors[0, model.fitted])).all()


@settings(max_examples=15)
@given(seeds, st.sampled_from(list(MODELS)), st.sampled_from(["linear", "soft_l1"]))
def test_scipy_finds_nothing_better_from_where_a_fit_ended(seed, name, loss):
    model = MODELS[name]
    values = traces(name, 1, seed, outliers=0.02)
    scale = 0.02 * np.ptp(values)
    fits = fit_cells(HOURS, values, model, loss=loss, loss_scale=scale)
    assume(fits.success[0])
    low, high = bounds_of(model)
    residual, found = residuals(model, HOURS, values[0]), fits.parameters[0, model.fitted]
    theirs = optimize.least_squares(residual, found, bounds=(low, high), loss=loss, f_scale=scale, x_scale="jac")
    kinked = name == "two_rate_onset"  # the cost has a kink where t0 is a sample's time, and a fit may end there
    assert cost_of(residual(found), loss, scale) <= theirs.cost * (1 + (1e-2 if kinked else 1e-6))


def test_errors_of_least_squares_are_those_of_curve_fit():
    values, truth = maturation_traces(5, 0.01, seed=1)
    fits = fit_cells(HOURS, values, MATURATION)

    def curve(t, *found):
        return MATURATION.curve(t[None], np.array([[*found, *truth[0, 4:]]]))[0]

    for n in range(5):
        _, covariance = optimize.curve_fit(curve, HOURS, values[n], p0=fits.parameters[n, :4])
        np.testing.assert_allclose(fits.errors[n, :4], np.sqrt(np.diag(covariance)), rtol=1e-2)
    assert np.isnan(fits.errors[:, 4:]).all()


# ---------------------------------------------------------------------------------------------- truth


def test_truth_is_found_again_with_noise():
    values, truth = maturation_traces(1000, 0.01, seed=7)
    fits = fit_cells(HOURS, values, MATURATION)
    within = np.abs(fits.parameters - truth)[:, :4] <= 3 * fits.errors[:, :4]  # never true of one without an error
    assert fits.success.mean() >= 0.97
    assert within.all(1)[fits.success].mean() >= 0.95
    np.testing.assert_allclose(fits.residual_rms, 0.01 * np.ptp(values, axis=1), rtol=0.25)
    assert (fits.r_squared > 0.98).all()
    assert (fits.points == 180).all()


def test_errors_are_neither_too_small_nor_too_large():
    values, truth = maturation_traces(1000, 0.01, seed=8)
    fits = fit_cells(HOURS, values, MATURATION)
    off = (fits.parameters - truth)[:, :4] / fits.errors[:, :4]
    inside = np.isfinite(off).all(1)
    assert inside.mean() > 0.95
    np.testing.assert_allclose(off[inside].std(0), 1.0, atol=0.12)


@pytest.mark.parametrize("name", MODELS)
def test_traces_without_noise_give_their_parameters_back(name):
    model = MODELS[name]
    truth = {
        "maturation": [0.4, 5e3, 0.07, 200.0, 1.28, 5.22e-3, 1.0],
        "exponential_decay": [900.0, 0.3, 50.0],
        "trivial": [7.0, -3.0],
        "two_rate_onset": [7.1, 900.0, 0.8, 0.03, 50.0],
    }[name]
    fits = fit_cells(HOURS, model.curve(HOURS[None], np.array([truth])), model)
    assert fits.success.all(), fits.message
    np.testing.assert_allclose(fits.parameters[0], truth, rtol=1e-5)
    assert fits.r_squared[0] > 1 - 1e-9


def test_ktl_is_found_over_all_its_decades():
    truth = np.tile([p.default for p in MATURATION.parameters], (9, 1))
    truth[:, 0], truth[:, 2] = 0.3, 0.05
    truth[:, 1] = np.geomspace(2.0, 4e8, 9)
    clean = MATURATION.curve(HOURS[None], truth)
    noise = np.random.default_rng(0).normal(size=clean.shape) * clean.max(1, keepdims=True) * 1e-3
    fits = fit_cells(HOURS, clean + noise, MATURATION)
    assert fits.success.all()
    np.testing.assert_allclose(fits.parameters[:, 1], truth[:, 1], rtol=0.02)


def test_soft_l1_is_not_led_away_by_outliers():
    model = MODELS["two_rate_onset"]
    truth = np.array([[9.0, 1000.0, 0.7, 0.02, 100.0]])
    rng = np.random.default_rng(2)
    values = model.curve(HOURS[None], truth) + rng.normal(size=(40, 180)) * 10
    values[rng.random(values.shape) < 0.04] += 2000.0
    robust, plain = (fit_cells(HOURS, values, model, loss=loss) for loss in (None, "linear"))
    assert robust.success.mean() > 0.95
    off = [np.abs(fits.parameters - truth).mean(0) for fits in (robust, plain)]
    assert (off[0] * 3 < off[1]).all()
    within = np.abs(robust.parameters - truth) <= 3 * robust.errors
    assert within[robust.success].mean() > 0.95


def test_onset_anywhere_in_the_trace_is_found():
    model = MODELS["two_rate_onset"]
    truth = np.tile([0.0, 1000.0, 0.7, 0.02, 100.0], (60, 1))
    truth[:, 0] = np.linspace(-0.5, 24.0, 60)
    values = model.curve(HOURS[None], truth) + np.random.default_rng(3).normal(size=(60, 180)) * 10
    fits = fit_cells(HOURS, values, model)
    assert fits.success.mean() >= 0.97
    assert (np.abs(fits.parameters[:, 0] - truth[:, 0]) < 0.5).mean() >= 0.97


# ---------------------------------------------------------------------------------------------- one row a cell


@pytest.mark.parametrize("name", MODELS)
def test_results_do_not_depend_on_the_cells_beside(name):
    model = MODELS[name]
    values = traces(name, AT_ONCE + 20, seed=11, outliers=0.02)
    values[3, 10:40] = np.nan
    values[5, 4:] = np.nan
    whole = fit_cells(HOURS, values, model)
    for size in (1, 7, 100, AT_ONCE):
        parts = [fit_cells(HOURS, values[k : k + size], model) for k in range(0, 60, size)]
        first = type(whole).joined(parts)
        for field in dataclasses.fields(whole):
            np.testing.assert_array_equal(getattr(first, field.name)[:60], getattr(whole, field.name)[:60])
    back = fit_cells(HOURS, values[::-1], model)
    np.testing.assert_array_equal(back.parameters[::-1], whole.parameters)
    np.testing.assert_array_equal(back.errors[::-1], whole.errors)


@pytest.mark.parametrize("name", MODELS)
def test_times_of_each_cell_are_as_times_of_all(name):
    values = traces(name, 6, seed=12)
    assert_same(fit_cells(np.tile(HOURS, (6, 1)), values, MODELS[name]), fit_cells(HOURS, values, MODELS[name]))


def test_samples_that_are_not_there_are_left_out():
    values, _ = maturation_traces(4, 0.02, seed=13)
    keep = np.random.default_rng(0).random(180) < 0.6
    gaps = np.where(keep, values, np.nan)
    few, masked = fit_cells(HOURS[keep], values[:, keep], MATURATION), fit_cells(HOURS, gaps, MATURATION)
    untimed = fit_cells(np.where(keep, HOURS, np.nan), values, MATURATION)
    for found in (masked, untimed):
        assert (found.points == keep.sum()).all()
        np.testing.assert_allclose(found.parameters, few.parameters, rtol=1e-7)
        np.testing.assert_allclose(found.errors, few.errors, rtol=1e-7)


def test_traces_that_cannot_be_fitted_are_rows_that_say_so():
    values, _ = maturation_traces(6, 0.02, seed=14)
    values[0, 4:] = np.nan
    values[1] = np.nan
    values[2, 17] = np.inf
    values[3, 17] = -np.inf
    fits = fit_cells(HOURS, values, MATURATION)
    np.testing.assert_array_equal(fits.success, [False] * 4 + [True] * 2)
    assert list(fits.points[:2]) == [4, 0]
    assert fits.message[0] == "too few points: 4 for 4 parameters; at least 5 are needed"
    assert fits.message[1].startswith("too few points: 0")
    assert fits.message[2] == fits.message[3] == "a value or its time is infinite"
    for column in (fits.parameters[:4, :4], fits.errors[:4], fits.residual_rms[:4], fits.r_squared[:4]):
        assert np.isnan(column).all()
    np.testing.assert_array_equal(fits.parameters[:, 4:], np.tile([1.28, 5.22e-3, 1.0], (6, 1)))


def test_infinite_times_matter_only_where_there_is_a_value():
    values, _ = maturation_traces(2, 0.02, seed=15)
    times = HOURS.copy()
    times[-1] = np.inf
    values[1, -1] = np.nan
    assert list(fit_cells(times, values, MATURATION).success) == [False, True]


def test_a_fit_that_does_not_converge_is_a_row():
    values, _ = maturation_traces(5, 0.02, seed=16)
    fits = fit_cells(HOURS, values, MATURATION, limits=Limits(evaluations=1))
    assert not fits.success.any()
    assert set(fits.message) == {"not converged after 1 evaluations of the model"}
    assert np.isfinite(fits.parameters).all()
    assert np.isfinite(fits.residual_rms).all()
    assert np.isnan(fits.errors).all()


def test_a_model_that_is_nowhere_finite_is_a_row():
    broken = Model("broken", "", (Parameter("x", 1.0, 0.0, 2.0, ""),), lambda t, p: t * p * np.nan,
                   lambda t, p, wanted: np.ones((len(p), len(wanted), t.shape[1])))  # fmt: skip
    fits = fit_cells(HOURS, np.ones((2, 180)), broken)
    assert not fits.success.any()
    assert set(fits.message) == {"the model has no finite values where the fit starts"}


@settings(max_examples=60)
@given(seeds, st.sampled_from(list(MODELS)), st.sampled_from([None, "linear", "soft_l1"]))
def test_no_trace_raises(seed, name, loss):
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 1.0, -1e300, 1e300, 1e-300, np.nan, np.inf, 5.0, 1e9], size=(6, 12))
    values[0], values[1], values[2] = 0.0, 3.0, rng.normal(size=12)
    times = rng.choice([0.0, 1.0, 1e9, -5.0, np.nan, np.inf, 1e-9], size=(6, 12))
    fits = fit_cells(times, values, MODELS[name], loss=loss)
    assert len(fits.success) == 6
    low, high = bounds_of(MODELS[name])
    found = fits.parameters[:, MODELS[name].fitted][fits.success]
    assert ((found >= low) & (found <= high)).all()


@pytest.mark.parametrize("level", [0.0, 3.0, -250.0, 0.1, 12345.678])
@pytest.mark.parametrize("name", MODELS)
def test_a_trace_that_never_changes_is_fitted(name, level):
    fits = fit_cells(HOURS, np.full((1, 180), level), MODELS[name])
    assert fits.success.all(), fits.message
    assert fits.residual_rms[0] < 20
    assert np.isnan(fits.r_squared[0])


def test_a_parameter_at_its_bound_has_the_error_that_it_would_have_without():
    model = MATURATION.changed({"delta": {"low": 0.2, "default": 0.3}})
    values, truth = maturation_traces(40, 0.02, seed=17)
    fits = fit_cells(HOURS, values, model)
    held = fits.parameters[:, 2] == 0.2
    assert held[truth[:, 2] < 0.15].all()
    assert np.isfinite(fits.errors[:, 1:3]).all()
    for n in np.flatnonzero(held)[:5]:
        every = np.arange(7)
        slopes = model.slopes(HOURS[None], fits.parameters[n : n + 1], every)[0, model.fitted]
        left = values[n] - model.curve(HOURS[None], fits.parameters[n : n + 1])[0]
        covariance = np.linalg.inv(slopes @ slopes.T) * (left**2).sum() / (180 - 4)
        np.testing.assert_allclose(fits.errors[n, model.fitted], np.sqrt(np.diag(covariance)), rtol=1e-5)


def test_a_fixed_parameter_keeps_its_value():
    values, _ = maturation_traces(20, 0.02, seed=18)
    fits = fit_cells(HOURS, values, MATURATION.changed({"t0": {"default": 0.25, "fixed": True}}))
    assert (fits.parameters[:, 0] == 0.25).all()
    assert np.isnan(fits.errors[:, 0]).all()
    free = fit_cells(HOURS, values, MATURATION)
    assert (fits.residual_rms >= free.residual_rms * (1 - 1e-9)).all()


def test_with_nothing_to_fit_the_curve_is_measured():
    values = 2.0 * HOURS[None] + 1.0
    model = MODELS["trivial"].changed({n: {"default": 1.0, "fixed": True} for n in ("slope", "intercept")})
    fits = fit_cells(HOURS, values, model)
    assert fits.success.all()
    assert fits.residual_rms[0] == pytest.approx(np.sqrt((HOURS**2).mean()))


def test_r_squared_of_a_bad_fit_is_below_zero():
    values = np.linspace(10.0, 11.0, 180)[None]
    model = MODELS["trivial"].changed({"intercept": {"high": 5.0}, "slope": {"high": 0.001}})
    assert fit_cells(HOURS, values, model).r_squared[0] < -1


def test_parameters_that_the_data_do_not_tell_apart_have_infinite_errors():
    def double(times, parameters):
        return (parameters[:, :1] + parameters[:, 1:2]) * times

    def slopes(times, parameters, wanted):
        return np.tile(times[:1], (len(parameters), len(wanted), 1))

    model = Model("double", "", tuple(Parameter(n, 1.0, -9.0, 9.0, "") for n in "ab"), double, slopes)
    fits = fit_cells(HOURS, 3 * HOURS[None], model)
    assert fits.success.all()
    assert fits.parameters.sum() == pytest.approx(3.0)
    assert np.isinf(fits.errors).any()


@pytest.mark.parametrize("shape", [(0, 180), (3, 0)])
def test_nothing_gives_no_rows_or_rows_that_say_so(shape):
    fits = fit_cells(np.arange(float(shape[1])), np.zeros(shape), MATURATION)
    assert fits.parameters.shape == (shape[0], 7)
    assert not fits.success.any()


@pytest.mark.parametrize(
    ("times", "values", "more"),
    [
        (HOURS, np.zeros((2, 17)), {}),
        (np.zeros((3, 180)), np.zeros((2, 180)), {}),
        (HOURS, np.zeros(180), {}),
        (HOURS, np.zeros((2, 180)), {"loss": "cauchy"}),
        (HOURS, np.zeros((2, 180)), {"loss_scale": 0.0}),
    ],
)
def test_shapes_and_losses_that_are_wrong_are_refused(times, values, more):
    with pytest.raises(ConfigError, match="must be"):
        fit_cells(times, values, MATURATION, **more)


def test_parameters_that_make_up_for_each_other_are_found():
    """Decays that are hardly begun: amplitude and rate are nearly their product, and a plain descent creeps."""
    rng = np.random.default_rng(5)
    truth = np.column_stack([10 ** rng.uniform(2, 5, 300), 10 ** rng.uniform(-3, 0.5, 300), rng.uniform(0, 100, 300)])
    model = MODELS["exponential_decay"]
    values = model.curve(HOURS[None], truth)
    values += rng.normal(size=values.shape) * values.max(1)[:, None] * 0.02
    fits = fit_cells(HOURS, values, model)
    assert fits.success.mean() > 0.99
    short = fit_cells(HOURS, values, model, limits=Limits(evaluations=30))
    assert short.success.mean() > 0.95
