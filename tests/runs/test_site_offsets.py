"""Offsets of sites by multiview-stitcher: with a stand-in anywhere, and with the package where it is installed."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from support.tiles import Tiles, generated

from pyama_dask.config.models import StitchParams
from pyama_dask.errors import ConfigError
from pyama_dask.kernels.placement import place
from pyama_dask.kernels.registration import levelled, offsets_at, pair_offsets
from pyama_dask.methods import optional
from pyama_dask.runs.site_offsets import check_method, site_offsets

PARAMS = StitchParams(method="multiview-stitcher", max_shift=10)
SITES = (4, 5, 6, 7, 8, 9)


def worst(found, truth):
    """Largest distance from the truth, apart from a common shift."""
    away = found - found.mean(0) - (truth - truth.mean(0))
    return np.hypot(*away.T).max()


@pytest.fixture(scope="module")
def tiles():
    return Tiles(grid=(2, 2), shape=(96, 128), seed=2, shading=0)


@pytest.fixture(scope="module")
def well():
    """Sites of a generated well, their true corners, and those of the stage."""
    images, truth, drawn = generated(grid=(2, 2), tile=(160, 160), overlap=0.3, stage_error_px=3, shading=0.3)
    stage = np.array([tile.stage_um[::-1] for tile in drawn.tiles]) / drawn.scene.pixel_um
    return images, truth, stage


class StandIn:
    """In place of the package: finds the true positions, and what is set as linear part of each tile."""

    def __init__(self):
        self.truth, self.linear, self.calls, self.error = {}, {}, [], None

    def view(self, array, *, dims, scale, translation, transform_key):
        assert (dims, scale, transform_key) == (["t", "c", "y", "x"], {"y": 1, "x": 1}, "stage")
        assert array.shape[:2] == (1, 1)
        return SimpleNamespace(image=array[0, 0], y=translation["y"], x=translation["x"])

    def register(self, views, **options):
        assert dask.config.get("scheduler") == "synchronous"
        self.calls.append(options["pairs"])
        if self.error:
            raise self.error
        keys = [view.image[0, 0].item() for view in views]
        shifts = [np.subtract(self.truth[key], (view.y, view.x)) for key, view in zip(keys, views, strict=True)]
        graph = {
            k: matrix(shift, self.linear.get(key)) for k, (key, shift) in enumerate(zip(keys, shifts, strict=True))
        }
        params = [matrix(shift)[None] for shift in shifts]  # one matrix for each time
        return {"params": params, "pairwise_registration": {"graph": graph}}

    def resolve(self, graph, *, transform):
        assert transform == "affine"
        return dict(reversed(graph.items())), {}


def matrix(shift, linear=None):
    found = np.eye(3)
    found[:2, 2] = shift
    if linear is not None:
        found[:2, :2] = linear
    return found


@pytest.fixture
def package(monkeypatch, tiles):
    stand_in = StandIn()
    stand_in.truth = {
        levelled(image)[0, 0].astype(np.float32).item(): at for image, at in zip(tiles.images, tiles.truth, strict=True)
    }
    parts = {
        "registration": SimpleNamespace(register=stand_in.register),
        "param_resolution": SimpleNamespace(groupwise_resolution=stand_in.resolve),
        "msi_utils": SimpleNamespace(get_msim_from_sim=lambda image, scale_factors: image),
        "spatial_image_utils": SimpleNamespace(get_sim_from_array=stand_in.view),
    }
    monkeypatch.setitem(sys.modules, "multiview_stitcher", SimpleNamespace(**parts))
    monkeypatch.setattr(optional, "installed_version", lambda _: "0.1.62")
    return stand_in


class TestStandIn:
    def test_its_positions_are_those_of_the_sites(self, package, tiles):
        offsets, notes = site_offsets("B02", SITES[:4], tiles.images, tiles.stage, PARAMS)
        assert worst(place(tiles.stage, offsets).positions, tiles.truth) < 1e-3
        assert package.calls == [[(0, 1), (0, 2), (1, 3), (2, 3)]]
        assert min(of.ncc for of in offsets.values()) > 0.5
        assert notes == []

    def test_offsets_that_the_images_do_not_show_are_not_accepted(self, package, tiles):
        wrong = np.add(tiles.truth, [(0, 0), (6, -7), (0, 0), (0, 0)])
        package.truth = dict(zip(package.truth, wrong, strict=True))
        offsets, _ = site_offsets("B02", SITES[:4], tiles.images, tiles.stage, PARAMS)
        assert {pair for pair, of in offsets.items() if not of.accepted} == {(0, 1), (1, 3)}
        found = place(tiles.stage, offsets)
        assert worst(found.positions[[0, 2, 3]], tiles.truth[[0, 2, 3]]) < 1e-3
        assert found.positions[1] == pytest.approx(tiles.stage[1])

    def test_rotation_and_scale_beyond_a_bound_are_warned_of(self, package, tiles):
        common = np.array([[1.02, 0.01], [-0.01, 1.02]])  # as of a wrong pixel size, which shifts take up
        turned = [*package.truth][2]
        package.linear = dict.fromkeys(package.truth, common)
        assert site_offsets("B02", SITES[:4], tiles.images, tiles.stage, PARAMS)[1] == []
        package.linear[turned] = np.add(common, [(0, 0.04), (-0.04, 0)])
        [note] = site_offsets("B02", SITES[:4], tiles.images, tiles.stage, PARAMS)[1]
        assert "B02: multiview-stitcher would also rotate or scale sites" in note
        assert f"(6 by {0.04 * np.hypot(95 / 2, 127 / 2):.1f} px at their corners)" in note

    def test_groups_that_do_not_touch_are_registered_alone(self, package, tiles):
        images = [*tiles.images[:2], *tiles.images[2:], tiles.images[0]]
        stage = np.array([*tiles.stage[:2], *np.add(tiles.stage[2:], (900, 0)), (5000, 5000)])
        offsets, _ = site_offsets("B02", SITES[:5], images, stage, StitchParams(method=PARAMS.method, max_shift=2000))
        assert package.calls == [[(0, 1)], [(0, 1)]]
        assert [*offsets] == [(0, 1), (2, 3)]
        for i, j in offsets:
            assert offsets[i, j][:2] == pytest.approx(tiles.truth[j] - tiles.truth[i])
        assert place(stage, offsets).unregistered == (4,)

    def test_its_failure_names_the_well_and_a_way_out(self, package, tiles):
        package.error = AssertionError("no overlap")
        said = (
            r"^params\.stitch_params\.method: multiview-stitcher 0\.1\.62 failed in B02 \(AssertionError: no overlap\)"
        )
        with pytest.raises(ConfigError, match=said + r"\. Fix: set it to ncc"):
            site_offsets("B02", SITES[:4], tiles.images, tiles.stage, PARAMS)

    def test_without_the_package_it_is_refused_with_the_command(self, monkeypatch):
        monkeypatch.setattr(optional, "installed_version", lambda _: "")
        check_method(StitchParams())
        said = (
            r"^params\.stitch_params\.method: 'multiview-stitcher' needs a package that is not installed\. "
            r"Fix: pip install 'pyama-dask\[multiview-stitcher\]'$"
        )
        with pytest.raises(ConfigError, match=said):
            check_method(PARAMS)


def test_offsets_at_the_measured_positions_have_the_measured_correlation(tiles):
    measured = pair_offsets(tiles.images, tiles.stage, 10)
    found = offsets_at(tiles.images, tiles.stage, tiles.truth, 10)
    assert [*found] == [*measured]
    for (i, j), offset in found.items():
        assert offset[:2] == pytest.approx(tiles.truth[j] - tiles.truth[i])
        assert offset.ncc == pytest.approx(measured[i, j].ncc, abs=0.15)
        assert offset.accepted
    far = np.add(tiles.stage, [(0, 0), (0, 0), (0, 10.1), (0, 0)])
    moved = offsets_at(tiles.images, tiles.stage, far, 10)
    assert {pair: of.at_limit for pair, of in moved.items()} == {pair: 2 in pair for pair in found}
    apart = np.array([(0, 0), (0, 128), (500, 0), (500, 128)])
    assert {of.ncc for of in offsets_at(tiles.images, tiles.stage, apart, 10).values()} == {0.0}


@pytest.mark.skipif(find_spec("multiview_stitcher") is None, reason="multiview-stitcher is not installed")
class TestReal:
    """With the package."""

    def test_sites_are_registered(self, well):
        images, truth, stage = well
        offsets, notes = site_offsets("B02", SITES[:4], images, stage, PARAMS)
        assert worst(stage, truth) > 3
        assert worst(place(stage, offsets).positions, truth) < 0.5
        assert notes == []

    def test_noise_is_not_registered(self):
        rng, stage = np.random.default_rng(0), np.array([(0, 0), (0, 60.0)])
        offsets, _ = site_offsets("B02", SITES[:2], rng.integers(90, 110, (2, 80, 80)), stage, PARAMS)
        assert not offsets[0, 1].accepted
