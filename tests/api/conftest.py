"""A small movie for scripts, and what a run makes of it."""

import pytest


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Movie of 2 FOVs and 3 frames."""
    from support.movies import as_nd2, pixels

    data = pixels(fovs=2, frames=3, shape=(120, 130), cells=3, border_margin=20)
    return as_nd2(tmp_path_factory.mktemp("few") / "few.nd2", data)


PARAMS = {"segmentation": {"morph_iterations": 1}, "tracking": {"min_frames": 1, "border_margin": 0}}


@pytest.fixture(scope="session")
def whole(tmp_path_factory, few):
    """Output of a run of all steps of `few`."""
    import pyama_dask
    from pyama_dask.api import Channels, ProcessingContext, load_microscopy_file, run_complete_workflow

    context = ProcessingContext(tmp_path_factory.mktemp("whole") / "out", Channels(0, [1]), params=PARAMS)
    assert run_complete_workflow(load_microscopy_file(few), context, n_workers=1)
    assert len(pyama_dask.open_output(context.output_dir).traces())
    return context.output_dir
