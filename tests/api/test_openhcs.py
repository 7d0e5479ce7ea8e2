"""Scripts for the orchestrator of OpenHCS: the examples of its documents run with imports and paths changed."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import tifffile
import zarr
from support import steps
from support.movies import as_czi, as_nd2, listing, pixels
from support.plates import SHARED, generator, needs_generator, state_of, truth_of

import pyama_dask
from pyama_dask.api import openhcs
from pyama_dask.api.openhcs import (
    AbstractStep,
    Backend,
    FunctionStep,
    GlobalPipelineConfig,
    GroupBy,
    ImageStitchingStep,
    InputSource,
    MaterializationBackend,
    Microscope,
    PathPlanningConfig,
    Pipeline,
    PipelineConfig,
    PipelineOrchestrator,
    PositionGenerationStep,
    VariableComponents,
    VFSConfig,
    ZarrChunkStrategy,
    ZarrCompressor,
    ZarrConfig,
)
from pyama_dask.api.openhcs.pipelines import translated
from pyama_dask.errors import ConfigError, OutputError, PlanError, SettingsWarning
from pyama_dask.readers import read_metadata

SEEDS = SHARED / "seeds"
WELLS, TILE, FRAMES = ("B02", "C10"), 128, 2

# ------------------------------------------------------------------------------- the examples, as they stand

SETTINGS = """
from openhcs.core.config import (
    GlobalPipelineConfig, PathPlanningConfig, VFSConfig, ZarrConfig,
    MaterializationBackend, ZarrCompressor, ZarrChunkStrategy
)
from openhcs.constants.constants import Backend, Microscope

global_config = GlobalPipelineConfig(
    num_workers=5,
    path_planning=PathPlanningConfig(
        output_dir_suffix="_stitched",
        global_output_folder="/path/to/outputs/",
        materialization_results_path="results"
    ),
    vfs=VFSConfig(
        intermediate_backend=Backend.MEMORY,
        materialization_backend=MaterializationBackend.ZARR
    ),
    zarr=ZarrConfig(
        store_name="images.zarr",
        compressor=ZarrCompressor.ZSTD,
        compression_level=1,
        shuffle=True,
        chunk_strategy=ZarrChunkStrategy.SINGLE,
        ome_zarr_metadata=True,
        write_plate_metadata=True
    ),
    microscope=Microscope.AUTO,
    use_threading=None
)
"""

PHASES = """
from openhcs.core.orchestrator.orchestrator import PipelineOrchestrator
from openhcs.core.config import GlobalPipelineConfig

# Create orchestrator for a microscopy plate
orchestrator = PipelineOrchestrator(plate_path, global_config=global_config)

# Three-phase execution workflow:

# 1. Initialize orchestrator
orchestrator.initialize()

# 2. Compile pipelines (validation, optimization, GPU assignment)
compiled_contexts = orchestrator.compile_pipelines(steps)

# 3. Execute compiled pipelines with parallel processing
results = orchestrator.execute_compiled_plate(
    pipeline_definition=steps,
    compiled_contexts=compiled_contexts,
    max_workers=global_config.num_workers
)
"""

WORKSPACE = """
# Create an orchestrator with a plate path
orchestrator = PipelineOrchestrator(
    config=config,
    plate_path="path/to/plate"  # Original plate path
)

# Access the workspace path (contains symlinks to original images)
workspace_path = orchestrator.workspace_path
"""

HANDLER = """
# The microscope handler knows how to interpret filenames for the specific plate type
microscope_handler = orchestrator.microscope_handler

# Parse a filename to extract components (channel, z-index, site, etc.)
components = microscope_handler.parser.parse_filename("image_c1_z3_s2.tif")

# Generate patterns for finding images
patterns = microscope_handler.auto_detect_patterns(input_dir)
"""

SERVICES = """
# Generate positions for a specific well
positions_file, _ = orchestrator.generate_positions(
    well="A01",
    input_dir=input_dir,
    positions_dir=positions_dir
)

# Stitch images for a specific well
orchestrator.stitch_images(
    well="A01",
    input_dir=input_dir,
    output_dir=output_dir,
    positions_file=positions_file
)

# Get a thread-safe stitcher instance
stitcher = orchestrator.get_stitcher()
"""

SEQUENCE = """
# Run a single pipeline
orchestrator.run(pipelines=[pipeline])

# Run multiple pipelines in sequence
results = orchestrator.run(pipelines=[pipeline1, pipeline2, pipeline3])
"""


def executed(example, changes=(), **names):
    """Run an example with its imports changed, and texts in it replaced."""
    example = re.sub(r"from openhcs[\w.]* import", "from pyama_dask.api.openhcs import", example)
    for old, new in changes:
        assert old in example
        example = example.replace(old, new)
    names = dict(names)
    exec(compile(example, "script.py", "exec"), names)
    return names


# ------------------------------------------------------------------------------------------------- plates


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=2, frames=FRAMES, shape=(60, 70), cells=2)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return as_czi(tmp_path_factory.mktemp("movie") / "movie.czi", data)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Two wells of two sites, at which the stage is some pixels off."""
    folder, module = tmp_path_factory.mktemp("plates") / "Exp2_P3", generator()
    scene = module.Scene(wells=WELLS, grid=(1, 2), tile=(TILE, TILE), overlap=0.3, frames=FRAMES, stage_error_px=3)
    module.write_imagexpress(folder, scene)
    return folder


def here(tmp_path, **settings):
    """Settings of a run in this process, with its output in a folder."""
    paths = PathPlanningConfig(global_output_folder=tmp_path)
    return GlobalPipelineConfig(**{"num_workers": 1, "path_planning": paths} | settings)


def image(output, path, fov=0):
    return zarr.open_array(output / f"fov_{fov:03}" / path, mode="r")[:]


def silently(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SettingsWarning)
        return function(*args, **options)


# ----------------------------------------------------------------------------------------------- examples


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the documents of OpenHCS are not at hand")
def test_the_examples_are_those_of_the_documents():
    """Every block of code is among them, line by line."""
    (document,) = SEEDS.glob("002_*.txt")
    found = re.findall(r"\.\. code-block:: python\n\n( +)(.*\n(?:\1.*\n|\n)*)", document.read_text())
    lines = {line.strip() for _, block in found for line in block.splitlines()}
    mine = (SETTINGS, PHASES, WORKSPACE, HANDLER, SERVICES, SEQUENCE.replace("results = ", ""))
    assert len(found) == 8
    assert lines == {line.strip() for example in mine for line in example.splitlines()}


@needs_generator
class TestExamples:
    def test_settings_and_three_phases(self, plate, tmp_path):
        before = state_of(plate)
        names = executed(SETTINGS, [("/path/to/outputs/", str(tmp_path)), ("num_workers=5", "num_workers=1")])
        own = [FunctionStep((scipy.ndimage.gaussian_filter, {"sigma": 1}), name="Smooth it", group_by="channel")]
        with pytest.warns(SettingsWarning) as warned:
            ran = executed(PHASES, plate_path=plate, steps=own, global_config=names["global_config"])
        assert {str(of.message).split(" (")[0] for of in warned} == {
            "path_planning.materialization_results_path", "zarr.write_plate_metadata",
        }  # fmt: skip
        output = tmp_path / "Exp2_P3_stitched"
        assert {well: of.status for well, of in ran["results"].items()} == dict.fromkeys(WELLS, "done")
        assert ran["compiled_contexts"].plan.plan.warnings == ()
        storage = ran["compiled_contexts"].plan.plan.job.config.storage
        assert (storage.codec, storage.level, storage.shuffle, storage.chunks) == ("zstd", 1, "on", "block")
        files = {(row["well"], row["site"], row["t"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
        raw = tifffile.imread(plate / files["C10", "2", "1", "1"])
        smooth = image(output, "pipeline1.zarr/Smooth_it_1/0", fov=3)
        assert np.array_equal(smooth[1], scipy.ndimage.gaussian_filter(raw, 1))
        assert state_of(plate) == before

    def test_the_workspace_has_links_and_is_made_when_it_is_asked_for(self, plate, tmp_path):
        before = state_of(plate)
        config = here(tmp_path)
        ran = executed(
            WORKSPACE, [("path/to/plate", str(plate))], PipelineOrchestrator=PipelineOrchestrator, config=config
        )
        workspace = ran["workspace_path"]
        assert workspace == tmp_path / "Exp2_P3_outputs" / "workspace"
        files = [path for path in plate.rglob("*") if path.is_file()]
        links = [path for path in workspace.rglob("*") if path.is_symlink()]
        assert {link.resolve() for link in links} == {file.resolve() for file in files}
        assert {link.relative_to(workspace) for link in links} == {file.relative_to(plate) for file in files}
        assert ran["orchestrator"].workspace_path == workspace  # again
        seen, original = read_metadata(workspace), read_metadata(plate)
        assert [fov.name for fov in seen.fovs] == [fov.name for fov in original.fovs]
        assert state_of(plate) == before
        results = ran["orchestrator"].run([Pipeline([FunctionStep("gaussian")])])  # beside the workspace
        assert {of.status for of in results.values()} == {"done"}

    def test_names_and_patterns(self, plate, tmp_path):
        orchestrator = PipelineOrchestrator(plate, global_config=here(tmp_path)).initialize()
        found = executed(HANDLER, orchestrator=orchestrator, input_dir=plate)
        none = {"well": None, "timepoint": None}
        assert found["components"] == none | {"channel": 1, "z_index": 3, "site": 2, "extension": ".tif"}
        times = [f"TimePoint_{frame + 1}/Exp2_P3_C10_s{{iii}}_w2.TIF" for frame in range(FRAMES)]
        assert {*found["patterns"]} == {*WELLS}
        assert found["patterns"]["C10"][2] == times
        for row in truth_of(plate, "planes"):
            parts = orchestrator.microscope_handler.parse_filename(row["file"])
            assert (parts["well"], parts["site"], parts["channel"] - 1, parts["timepoint"] - 1) == (
                row["well"], int(row["site"]), int(row["channel"]), int(row["t"]),
            )  # fmt: skip

    def test_positions_and_stitched_images(self, plate, tmp_path):
        before = state_of(plate)
        orchestrator = PipelineOrchestrator(plate, global_config=here(tmp_path)).initialize()
        folders = {"input_dir": plate, "positions_dir": tmp_path / "positions", "output_dir": tmp_path / "stitched"}
        found = executed(SERVICES, [('"A01"', '"B02"')], orchestrator=orchestrator, **folders)
        assert found["positions_file"] == tmp_path / "positions" / "B02_positions.csv"
        table = pd.read_csv(found["positions_file"]).set_index("site")
        true = {int(row["site"]): row for row in truth_of(plate, "tiles") if row["well"] == "B02"}
        for axis in "yx":
            offset = float(true[2][axis]) - float(true[1][axis])
            assert table[axis][2] - table[axis][1] == pytest.approx(offset, abs=1)
        assert set(table["source"]) == {"register"}
        written = listing(tmp_path / "stitched")
        assert written == {f"B02_w{c}_z001_t{t:03}.tif" for c in (1, 2) for t in range(1, FRAMES + 1)}
        files = {(row["well"], row["site"], row["t"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
        site = tifffile.imread(plate / files["B02", "1", "1", "1"])
        whole = tifffile.imread(tmp_path / "stitched" / "B02_w2_z001_t002.tif")
        y, x = (round(table[axis][1]) for axis in "yx")
        assert np.array_equal(whole[y : y + TILE, x : x + 60], site[:, :60])  # where no other site is
        assert whole.shape[1] > TILE * 1.5
        assert isinstance(found["stitcher"], openhcs.Stitcher)
        assert orchestrator.generate_positions("B02")[1] == "TimePoint_1/Exp2_P3_B02_s{iii}_w1.TIF"
        assert state_of(plate) == before

    def test_pipelines_in_sequence(self, plate, tmp_path):
        """Each gets what the one before has made."""
        light = FunctionStep((steps.brighter, {"by": 5}), name="first")
        pipelines = {
            "pipeline": Pipeline([light], name="alone"),
            "pipeline1": Pipeline([light], name="one"),
            "pipeline2": Pipeline([FunctionStep([(steps.brighter, {"by": 7}), steps.inverted])], name="two"),
            "pipeline3": Pipeline([FunctionStep(steps.inverted, well_filter=["C10"])], name="three"),
        }
        settings = here(tmp_path, well_filter="C10", pyama={"params": {"sites": "2", "frames": "0"}})
        ran = executed(SEQUENCE, orchestrator=PipelineOrchestrator(plate, global_config=settings), **pipelines)
        assert {well: of.status for well, of in ran["results"].items()} == {"C10": "done"}
        files = {(row["well"], row["site"], row["t"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
        raw = tifffile.imread(plate / files["C10", "2", "0", "0"])
        found = image(tmp_path / "Exp2_P3_outputs", "three.zarr/inverted_0/0", fov=3)[0]
        assert np.array_equal(found, raw + np.uint16(12))


# ----------------------------------------------------------------------------------------------- services


@needs_generator
def test_steps_that_process_a_well_get_its_context(plate, tmp_path):
    """Positions, stitched images of a pipeline, and a step of a script, whose failure harms no other."""

    class Fails(AbstractStep):
        def process(self, context):
            seen.append((context.orchestrator, context.well, context.output, context.fovs))
            if context.well == "B02":
                raise RuntimeError("no such luck")
            return 7

    seen = []
    own = FunctionStep({"2": (steps.brighter, {"by": 9})}, group_by=GroupBy.CHANNEL)
    pipeline = Pipeline([own, PositionGenerationStep(), ImageStitchingStep(), Fails("last")], name="cells")
    orchestrator = PipelineOrchestrator(plate, global_config=here(tmp_path)).initialize()
    contexts = orchestrator.compile_pipelines(pipeline)
    assert not orchestrator.output.exists()
    results = orchestrator.execute_compiled_plate(pipeline, contexts)
    output = tmp_path / "Exp2_P3_outputs"
    assert seen == [(orchestrator, "B02", output, (0, 1)), (orchestrator, "C10", output, (2, 3))]
    assert (results["B02"].status, results["B02"].reason) == ("failed", "step last: no such luck")
    assert (results["C10"].status, contexts["C10"].outputs["last"]) == ("done", 7)
    assert contexts["C10"].positions_file == output / "positions" / "C10_positions.csv"
    files = {(row["well"], row["site"], row["t"], row["channel"]): row["file"] for row in truth_of(plate, "planes")}
    raw = tifffile.imread(plate / files["B02", "1", "0", "1"])
    at = pd.read_csv(output / "positions" / "B02_positions.csv").set_index("site")
    whole = tifffile.imread(output / "stitched" / "B02_w1_z001_t001.tif")  # the only image that is stored
    y, x = (round(at[axis][1]) for axis in "yx")
    assert np.array_equal(whole[y : y + TILE, x : x + 60], raw[:, :60] + np.uint16(9))
    assert {of.status for of in orchestrator.run([pipeline]).values()} == {"done", "failed"}  # resumes


@needs_generator
def test_nothing_is_written_into_the_plate(plate, tmp_path):
    before = state_of(plate)
    orchestrator = PipelineOrchestrator(plate, plate / "workspace", global_config=here(tmp_path)).initialize()
    table = orchestrator.generate_positions("B02")[0]
    for attempt in (
        lambda: orchestrator.workspace_path,
        lambda: orchestrator.generate_positions("B02", positions_dir=plate / "positions"),
        lambda: orchestrator.stitch_images("B02", output_dir=plate / "stitched", positions_file=table),
        lambda: PipelineOrchestrator(plate, config=here(plate)).run([[FunctionStep("gaussian")]]),
    ):
        with pytest.raises(ConfigError, match="is within the movie"):
            attempt()
    with pytest.raises(ConfigError, match=r"has no well 'A01'\. Fix: name one of its wells \(B02, C10\)"):
        orchestrator.generate_positions("A01")
    with pytest.raises(ConfigError, match="has no positions of C10"):
        orchestrator.stitch_images("C10", positions_file=table)
    assert state_of(plate) == before


def test_a_file_in_the_place_of_a_link_stays(tmp_path):
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / "a.tif").write_bytes(b"image")
    orchestrator = PipelineOrchestrator(tmp_path / "plate", config=here(tmp_path))
    link = orchestrator.workspace_path / "a.tif"
    link.unlink()
    link.write_bytes(b"mine")
    with pytest.raises(OutputError, match="is a file instead of a link"):
        assert orchestrator.workspace_path
    assert link.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("r02c03f04p05-ch1sk7fk1fl1.tiff", ("B03", 4, 1, 5, 7)),
        ("TimePoint_3/ZStep_2/Exp2_P3_E07_s219DACB95-CB7D-4899-9AB4-D4E10B44145D.tif", ("E07", 2, None, 2, 3)),
        ("P_B02_s1_w2.TIF", ("B02", 1, 2, None, None)),
        ("A01_s002_w1_z003_t004.tif", ("A01", 2, 1, 3, 4)),
        ("P_B02_s1_w2_thumb.TIF", None),
        ("image.tif", None),
        ("B02_s1_w1.png", None),
    ],
)
def test_parts_of_names(name, parts):
    found = openhcs.FilenameParser().parse_filename(name)
    keys = ("well", "site", "channel", "z_index", "timepoint")
    assert (found and tuple(found[key] for key in keys)) == parts


# ----------------------------------------------------------------------------------------------- settings


class TestSettings:
    def test_both_forms_of_the_constructor(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        one = silently(PipelineOrchestrator, "data/plate", global_config=here(tmp_path))
        with pytest.warns(
            SettingsWarning, match=r"^path_planning\.global_output_folder \(None\): results are in .*plate_outputs"
        ):
            other = PipelineOrchestrator(config=PipelineConfig(), plate_path=Path("data/plate"))
        assert one.output == other.output == tmp_path / "plate_outputs"
        with pytest.raises(ConfigError, match="Fix: give one of them"):
            PipelineOrchestrator("plate", global_config=here(tmp_path), config=here(tmp_path))
        with pytest.raises(ConfigError, match="plate_path: is missing"):
            PipelineOrchestrator(config=here(tmp_path))

    def test_nothing_is_written_beside_the_plate_unasked(self, tmp_path, monkeypatch):
        (tmp_path / "link").symlink_to(tmp_path / "data")
        (tmp_path / "data").mkdir()
        for folder in ("data", "link"):
            monkeypatch.chdir(tmp_path / folder)
            for plate in ("plate", tmp_path / "data" / "plate", tmp_path / "link" / "plate"):
                with pytest.raises(ConfigError, match=r"global_output_folder: is not set, and the working directory"):
                    PipelineOrchestrator(plate)
        asked_for = GlobalPipelineConfig(path_planning=PathPlanningConfig("_a", global_output_folder="."))
        assert silently(PipelineOrchestrator, "plate", config=asked_for).output.name == "plate_a"

    def test_enums_by_name_and_value(self):
        zarr = ZarrConfig(compressor="ZSTD", chunk_strategy="file")
        assert (zarr.compressor, zarr.chunk_strategy) == (ZarrCompressor.ZSTD, ZarrChunkStrategy.FILE)
        assert GlobalPipelineConfig(microscope="opera_phenix").microscope is Microscope.OPERAPHENIX
        assert VFSConfig("zarr").intermediate_backend is Backend.ZARR
        with pytest.raises(ConfigError, match=r"^zarr\.compressor: 'gzip' is unknown\. Fix: use one of BLOSC, ZLIB"):
            ZarrConfig(compressor="gzip")
        with pytest.raises(ConfigError, match=r"^pyama: 'output' cannot be set here\. Fix: set path_planning"):
            GlobalPipelineConfig(pyama={"output": "elsewhere"})

    @pytest.mark.parametrize(
        ("zarr", "storage"),
        [
            (ZarrConfig(), {}),
            (ZarrConfig(compressor=ZarrCompressor.LZ4, compression_level=3), {"codec": "lz4", "level": 3}),
            (ZarrConfig(compressor=ZarrCompressor.NONE, compression_level=3, shuffle=True), {"codec": "none"}),
            (ZarrConfig(compressor=ZarrCompressor.ZLIB, compression_level=22), {"codec": "zstd", "level": 9}),
            (ZarrConfig(shuffle=False, chunk_strategy=ZarrChunkStrategy.FILE), {"shuffle": "off", "chunks": "frame"}),
        ],
    )
    def test_zarr_is_storage(self, zarr, storage):
        assert zarr.keys() == storage

    @pytest.mark.parametrize(
        ("settings", "names"),
        [
            ({"zarr": ZarrConfig(store_name="a.zarr")}, ["zarr.store_name"]),
            ({"zarr": ZarrConfig(compressor=ZarrCompressor.BLOSC)}, ["zarr.compressor"]),
            (
                {"zarr": ZarrConfig(compressor=ZarrCompressor.NONE, compression_level=3, shuffle=True)},
                ["zarr.compression_level", "zarr.shuffle"],
            ),
            ({"zarr": ZarrConfig(compression_level=22)}, ["zarr.compression_level"]),
            (
                {"zarr": ZarrConfig(chunk_strategy=ZarrChunkStrategy.CUSTOM, ome_zarr_metadata=False)},
                ["zarr.chunk_strategy", "zarr.ome_zarr_metadata"],
            ),
            ({"vfs": VFSConfig(Backend.DISK, MaterializationBackend.DISK)}, [
                "vfs.intermediate_backend", "vfs.materialization_backend",
            ]),
            ({"use_threading": True}, ["use_threading"]),
            ({"path_planning": PathPlanningConfig(materialization_results_path="x")}, [
                "path_planning.materialization_results_path",
            ]),
            (
                {
                    "num_workers": 2, "well_filter": "B02", "zarr": ZarrConfig(compressor=ZarrCompressor.LZ4),
                    "pyama": {"cluster": {"kind": "serial"}, "params": {"wells": "C10"}, "storage": {"codec": "zstd"}},
                },
                ["num_workers", "well_filter", "zarr"],
            ),
            ({"vfs": VFSConfig(Backend.MEMORY, MaterializationBackend.ZARR), "use_threading": False}, []),
        ],
    )  # fmt: skip
    def test_what_has_no_effect_is_told_by_name(self, settings, names):
        messages = GlobalPipelineConfig(**settings).without_effect(has_seven=True)
        assert [message.split(" (")[0] for message in messages] == names

    def test_workers(self, movie, tmp_path):
        settings = here(tmp_path, num_workers=None)
        assert settings.cluster() == {"kind": "local"}
        assert settings.cluster(1) == {"kind": "serial"}
        assert settings.cluster(3) == {"kind": "local", "workers": 3}
        for wrong in (0, "3"):
            with pytest.raises(ConfigError, match=f"max_workers: must be 1 or more, not {wrong!r}"):
                settings.cluster(wrong)

    def test_another_microscope_is_refused(self, movie, tmp_path):
        settings = here(tmp_path, microscope=Microscope.OPERAPHENIX)
        with pytest.raises(ConfigError, match=r"microscope \(OPERAPHENIX\): .*movie\.czi is of CZI"):
            PipelineOrchestrator(movie, config=settings).initialize()


# ----------------------------------------------------------------------------------------------- pipelines


class TestSteps:
    def steps_of(self, movie, *items, channels=2):
        metadata = read_metadata(movie)
        return translated(items, metadata, range(channels)).pipelines[0].steps

    def test_forms_of_functions(self, movie):
        (one,) = self.steps_of(movie, FunctionStep(steps.brighter, name="1st step"))
        assert (one.do, one.name, one.channels) == ("support.steps:brighter", "step_1st_step", "all")
        chain = self.steps_of(movie, FunctionStep([steps.brighter, ("gaussian", {"sigma": 2})], to="smooth"))
        assert [(step.do, step.params, step.to) for step in chain] == [
            ("support.steps:brighter", {}, None), ("gaussian", {"sigma": 2}, "smooth"),
        ]  # fmt: skip
        by_channel = self.steps_of(movie, FunctionStep({"GFP": steps.brighter, "1": "gaussian"}))
        assert [step.channels for step in by_channel] == [(1,), (0,)]
        (site,) = self.steps_of(movie, FunctionStep({"2": "gaussian"}, group_by="SITE"))
        (well,) = self.steps_of(movie, FunctionStep({"B02": "gaussian"}, group_by=GroupBy.WELL))
        assert (site.sites, well.wells) == ("2", "B02")

    def test_a_halo_of_none_is_a_halo(self, movie):
        """It counts instead of the one that is known of a function."""
        (alone,) = self.steps_of(movie, FunctionStep("scipy.ndimage:gaussian_filter", halo=0))
        assert alone.halo == 0

    def test_the_order_of_functions_and_steps_with_process(self, movie):
        """Functions come first, so that those after stitching would get other images than in OpenHCS."""
        metadata, blur = read_metadata(movie), FunctionStep("gaussian", name="blur")

        class Counts(AbstractStep):
            def process(self, context):
                return len(context.fovs)

        for pipelines in ([[blur, ImageStitchingStep(), blur]], [[ImageStitchingStep("whole")], [blur]]):
            with pytest.raises(ConfigError, match=r"^blur: comes after (ImageStitchingStep|whole), but functions get"):
                translated(pipelines, metadata, range(2))
        told = translated([[PositionGenerationStep(), blur, Counts()], ["median"]], metadata, range(2)).without_effect
        assert told == ("Counts: runs after median, which follows it: the functions of all pipelines come first",)

    def test_components_and_sources(self, movie):
        (planes,) = self.steps_of(movie, FunctionStep("max_projection", variable_components=VariableComponents.Z_INDEX))
        (stack,) = self.steps_of(movie, FunctionStep("m:f", variable_components=["timepoint"], halo=2))
        (start,) = self.steps_of(movie, FunctionStep("m:f", input_source=InputSource.PIPELINE_START))
        both = self.steps_of(
            movie, FunctionStep(["composite", "gaussian"], name="sum", variable_components=["channel"])
        )
        assert (planes.over, stack.takes, stack.halo, start.source) == ("z", "stack", 2, "start")
        assert [(step.of, step.channels, step.to) for step in both] == [((0, 1), "all", "sum"), ((), ("sum",), None)]
        assert [step.name for step in both] == ["sum", "sum2"]

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            (FunctionStep({"7": "gaussian"}), r"no channel '7'\. Fix: name one of 1 \(Phase\), 2 \(GFP\)"),
            (FunctionStep(("gaussian", 2)), r"write \(f, \{'sigma': 2\}\)"),
            (FunctionStep(3), "3 is no function"),
            (FunctionStep("gaussian", variable_components=["depth"]), "use one of SITE, CHANNEL, Z_INDEX"),
            (FunctionStep("gaussian", input_source="before"), "'before' is unknown"),
            (7, "7 is no step"),
            (FunctionStep("gaussian", name="blur", halo="x"), r"^blur\.halo: Input should be a valid integer"),
            (FunctionStep("gaussian", name="blur", to="a b"), r"^blur\.to: String should match pattern"),
            (
                FunctionStep({"1": "gaussian", "2": "median"}, to="x"),
                r"to \('x'\): each function .* Fix: leave out 'to'",
            ),
            (FunctionStep({"1": "gaussian"}, variable_components="channel"), r"variable_components \(CHANNEL\): "),
            ("copy", r"^pipelines\.pipeline1: pipeline 'pipeline1' has copy of the seven steps\. Fix: name all seven"),
        ],
    )
    def test_what_is_no_step_is_refused(self, movie, tmp_path, step, message):
        orchestrator = PipelineOrchestrator(movie, config=here(tmp_path)).initialize()
        with pytest.raises(ConfigError, match=message):
            orchestrator.compile_pipelines([step])
        assert not (tmp_path / "movie.czi_outputs").exists()

    def test_sites_together_are_told_to_have_no_effect(self, movie, tmp_path):
        orchestrator = PipelineOrchestrator(movie, config=here(tmp_path)).initialize()
        step = FunctionStep("gaussian", name="blur", variable_components=[VariableComponents.SITE])
        with pytest.warns(SettingsWarning, match=r"^blur: variable_components \(SITE\): "):
            orchestrator.compile_pipelines([step])

    def test_planes_of_a_movie(self, tmp_path):
        """A step over z gets all of them; else their maximum is processed."""
        planes = np.random.default_rng(0).integers(0, 999, (1, 2, 1, 3, 40, 50), np.uint16)
        movie = as_nd2(tmp_path / "planes.nd2", planes)
        orchestrator = PipelineOrchestrator(movie, config=here(tmp_path))
        mean = FunctionStep("mean_projection", variable_components=["z_index"])
        for number, (own, expected) in enumerate((([mean], planes.mean(axis=3)), ([], planes.max(axis=3)))):
            pipeline = Pipeline([*own, FunctionStep(steps.brighter)], name=f"p{number}")
            results = silently(orchestrator.run, [pipeline])
            assert results["FOV 0"].status == "done"
            found = image(orchestrator.output, f"p{number}.zarr/brighter_0/0")
            assert np.array_equal(found, np.rint(expected[0, :, 0]).astype(np.uint16) + np.uint16(10))

    def test_max_workers_beside_a_cluster_of_pyama(self, movie, tmp_path):
        """The seed's scripts give it always; only another number than that of the settings is told again."""
        settings = here(tmp_path, pyama={"cluster": {"kind": "serial"}, "params": {"fovs": "0", "frames": "0"}})
        orchestrator, blur = PipelineOrchestrator(movie, config=settings).initialize(), [FunctionStep("gaussian")]
        with pytest.warns(SettingsWarning, match=r"^num_workers \(1\): 'cluster' of pyama"):
            compiled = orchestrator.compile_pipelines(blur)
        with pytest.warns(SettingsWarning, match=r"^max_workers \(3\): 'cluster' of pyama"):
            results = orchestrator.execute_compiled_plate(blur, compiled, max_workers=3)
        assert results["FOV 0"].status == "done"
        assert silently(orchestrator.execute_compiled_plate, blur, compiled, max_workers=1) == results

    def test_the_phases_come_in_order(self, movie, tmp_path):
        orchestrator = PipelineOrchestrator(movie, config=here(tmp_path))
        with pytest.raises(PlanError, match=r"Fix: call initialize\(\) first"):
            orchestrator.compile_pipelines([FunctionStep("gaussian")])
        compiled = silently(orchestrator.initialize().compile_pipelines, [FunctionStep("gaussian")])
        with pytest.raises(PlanError, match="other pipelines were compiled"):
            orchestrator.execute_compiled_plate([FunctionStep("median")], compiled)
        with pytest.raises(ConfigError, match="no step to do"):
            orchestrator.compile_pipelines([])

    def test_the_seven_steps_and_a_table(self, movie, tmp_path, data):
        """Channels are guessed, and values that do not fit the movie are chosen, as 'init' does."""
        bright = FunctionStep(steps.cell_of_first_pixel, to="first", name="first")
        pipelines = [Pipeline("seven", name="cells"), Pipeline([bright], name="more")]
        settings = here(tmp_path, vfs=VFSConfig(Backend.ZARR))
        results = silently(PipelineOrchestrator(movie, config=settings).run, pipelines)
        assert {name: of.status for name, of in results.items()} == {"FOV 0": "done", "FOV 1": "done"}
        output = pyama_dask.open_output(tmp_path / "movie.czi_outputs")
        assert np.array_equal(output[1].image("fl_ch_1").data.compute(), data[1, :, 1])
        (table,) = (output.directory / "fov_001").glob("*_more_first.csv")
        assert len(pd.read_csv(table)) == 2 * FRAMES


@needs_generator
def test_the_example_of_the_documentation(plate, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "older_api.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[-1]
    monkeypatch.chdir(tmp_path)
    Path("Exp2_P3").symlink_to(plate)
    executed(example)
    printed = capsys.readouterr().out
    assert "pipeline prepare, on the images of the movie:" in printed
    assert printed.endswith("{'B02': 'done', 'C10': 'done'}\n")
    assert listing(tmp_path / "outputs") >= {"Exp2_P3_outputs"}
