"""Arrays on disk: as the design says they lie there, whole blocks only, and readable by other programs."""

import errno
import json
import os
import re
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from support.movies import data_files, times_of_change
from support.shards import write_block
from zarr.storage import ZipStore

from pyama_dask.config.load import parse_config
from pyama_dask.errors import PlanError, StoreError
from pyama_dask.files.checksums import checksum
from pyama_dask.kernels.crops import Scale
from pyama_dask.kernels.histogram import WholeLevels
from pyama_dask.store import crops, intermediate
from pyama_dask.store.array_documents import array_document
from pyama_dask.store.arrays import create_array, read_frame
from pyama_dask.store.crops import CellsWriter
from pyama_dask.store.layout import ArraySpec, check_chunks, layout
from pyama_dask.store.ngff import documents
from pyama_dask.store.shards import ShardReader, ShardWriter, read_frames
from pyama_dask.workflow.task import Job

SHAPE, FRAMES, BLOCK = (419, 523), 10, 4
CHANNELS = {"pc": {"channel": 0}, "fl": [{"channel": 1}, {"channel": 2}]}


def specs_of(channels=CHANNELS, storage=None, **params):
    params |= {"background_params": {"tile_size": 100}}
    document = {"input": "a", "output": "b", "channels": channels, "params": params, "storage": storage or {}}
    job = Job(Path("a"), Path("b"), parse_config(document), tuple(range(FRAMES)), BLOCK)
    return layout(job, SHAPE)


def create(images, specs, fov=0):
    for path, content in documents(specs, scale=(10.0, 0.65), attributes={"fov": fov}).items():
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(content)


def block(spec, start=0, seed=0):
    frames = min(BLOCK, FRAMES - start)
    values = np.random.default_rng(seed).integers(1, 60000, (frames, *spec.shape[1:]))
    return values.astype(spec.dtype)


@pytest.fixture
def images(tmp_path):
    create(tmp_path / "images.zarr", specs_of())
    return tmp_path / "images.zarr"


@pytest.fixture(params=["pc_ch_0/0", "fl_background_ch_1/0", "fl_background_ch_1/tiles", "fl_ch_1/1"])
def spec(request):
    return specs_of()[request.param]


class TestLayout:
    IMAGES = frozenset(["pc_ch_0", "fl_ch_1", "fl_ch_2", "seg_labeled_ch_0", "seg_tracked_ch_0"])
    BACKGROUNDS = frozenset(["fl_background_ch_1", "fl_background_ch_2"])

    def test_every_product_has_two_levels_and_backgrounds_their_tiles(self):
        levels = {f"{group}/{level}" for group in self.IMAGES | self.BACKGROUNDS for level in (0, 1)}
        assert set(specs_of()) == levels | {f"{group}/tiles" for group in self.BACKGROUNDS}

    def test_what_is_not_wanted_is_left_out(self):
        raw = {f"{group}/0" for group in self.IMAGES}
        found = specs_of(storage={"display": "off", "background": "grid"})
        assert set(found) == raw | {f"{group}/tiles" for group in self.BACKGROUNDS}

    def test_on_and_off_are_taken_as_yaml_reads_them(self):
        assert set(specs_of(storage={"display": False})) == set(specs_of(storage={"display": "off"}))
        assert set(specs_of(storage={"display": True})) == set(specs_of())

    @pytest.mark.parametrize(
        ("channels", "params", "groups"),
        [
            ({"pc": {"channel": 2}}, {}, {"pc_ch_2", "seg_labeled_ch_2", "seg_tracked_ch_2"}),
            ({"fl": [{"channel": 1}]}, {}, {"fl_ch_1"}),
            (CHANNELS, {"copy_only": True}, {"pc_ch_0", "fl_ch_1", "fl_ch_2"}),
        ],
    )
    def test_products_follow_the_channels(self, channels, params, groups):
        assert {spec.group for spec in specs_of(channels, **params).values()} == groups

    def test_pixel_types(self):
        dtypes = {path: spec.dtype for path, spec in specs_of().items()}
        assert {dtype for path, dtype in dtypes.items() if path.endswith("/1")} == {"uint8"}
        assert dtypes["fl_background_ch_1/tiles"] == "float64"
        assert dtypes["fl_background_ch_1/0"] == "float32"
        assert {dtypes[f"{g}/0"] for g in ("pc_ch_0", "fl_ch_1", "seg_labeled_ch_0", "seg_tracked_ch_0")} == {"uint16"}

    @pytest.mark.parametrize(
        ("shape", "level", "chunks", "shards"),
        [
            ((10, 512, 512), 0, (1, 512, 512), (4, 512, 512)),
            ((10, 1024, 1024), 0, (1, 1024, 1024), (4, 1024, 1024)),
            ((10, 1025, 2048), 0, (1, 513, 1024), (4, 1026, 2048)),
            ((10, 209, 261), 1, (1, 209, 131), (4, 209, 262)),
            ((10, 1, 1), 0, (1, 1, 1), (4, 1, 1)),
            ((10, 0, 7), 1, (1, 1, 7), (4, 1, 7)),
        ],
    )
    def test_chunks_and_shards(self, shape, level, chunks, shards):
        spec = ArraySpec("pc_ch_0", "raw", level, shape, "uint16", 4, "lz4")
        assert (spec.chunks, spec.shards) == (chunks, shards)

    def test_tiles_of_a_block_are_one_chunk(self):
        spec = specs_of()["fl_background_ch_1/tiles"]
        assert (spec.shape, spec.chunks, spec.shards) == ((10, 9, 11), (4, 9, 11), None)

    @given(st.integers(1, 6000), st.integers(1, 6000), st.integers(0, 1))
    def test_chunks_are_even_parts_that_make_a_shard_of_whole_frames(self, h, w, level):
        spec = ArraySpec("pc_ch_0", "raw", level, (5, h, w), "uint16", 2, "lz4")
        largest = (1024, 256)[level]
        for n, chunk, shard in zip((h, w), spec.chunks[1:], spec.shards[1:], strict=True):
            assert chunk <= largest
            assert n <= shard < n + chunk
            assert shard % chunk == 0


FORMS = {
    "auto": ({}, (1, 419, 523)),
    "frame": ({"chunks": "frame"}, (1, 419, 523)),
    "tiles": ({"chunks": "tiles of 256", "level": 9}, (1, 210, 175)),
    "block": ({"chunks": "block", "codec": "zstd", "level": 3}, (BLOCK, 210, 175)),
    "off": ({"shuffle": "off", "chunks": "block"}, (BLOCK, 210, 175)),
    "none": ({"codec": "none", "chunks": "block"}, (BLOCK, 210, 175)),
}


class TestForms:
    """`storage.level`, `shuffle` and `chunks`."""

    FULL = ("pc_ch_0/0", "fl_ch_1/0", "seg_labeled_ch_0/0", "seg_tracked_ch_0/0", "fl_background_ch_1/0")

    @pytest.mark.parametrize("name", FORMS)
    def test_arrays_at_full_size_have_it_and_others_stay(self, name):
        storage, chunks = FORMS[name]
        specs, usual = specs_of(storage=storage), specs_of()
        assert {path: specs[path].chunks for path in self.FULL} == dict.fromkeys(self.FULL, chunks)
        rest = [path for path in specs if path.endswith(("/1", "/tiles"))]
        assert [array_document(specs[path]) for path in rest] == [array_document(usual[path]) for path in rest]

    def test_a_frame_may_be_one_chunk_of_any_size(self):
        spec = ArraySpec("pc_ch_0", "raw", 0, (5, 3000, 1025), "uint16", 2, "lz4", chunking="frame")
        assert (spec.chunks, spec.shards) == ((1, 3000, 1025), (2, 3000, 1025))

    @pytest.mark.parametrize("name", FORMS)
    @pytest.mark.parametrize("path", FULL)
    def test_pixels_come_back_by_every_reader(self, tmp_path, name, path):
        spec = specs_of(storage=FORMS[name][0])[path]
        create_array(tmp_path, spec)
        whole = np.concatenate([block(spec, start, seed=start) for start in range(0, FRAMES, BLOCK)])
        for start in range(0, FRAMES, BLOCK):
            write_block(tmp_path, spec, start, whole[start : start + BLOCK])
        assert np.array_equal(zarr.open_array(tmp_path / path, mode="r")[:], whole)
        for start, stop in ((0, 4), (1, 3), (4, 8), (8, 10), (9, 10)):
            assert np.array_equal(read_frames(tmp_path, spec, start, stop), whole[start:stop])
        assert np.array_equal(read_frame(tmp_path, path, 6, 3), whole[6, ::3, ::3])

    @pytest.mark.parametrize("name", ["tiles", "block", "off", "none"])
    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_frames_that_are_added_give_the_same_file(self, tmp_path, name, length):
        spec = specs_of(storage=FORMS[name][0])["pc_ch_0/0"]
        create_array(tmp_path, spec)
        for start in (0, 8):  # a whole block, and one that is short
            data = block(spec, start, seed=5)
            data[1] = 0
            whole = write_block(tmp_path, spec, start, data).read_bytes()
            assert write_block(tmp_path, spec, start, data, length).read_bytes() == whole

    def test_each_setting_changes_bytes_in_its_way(self, tmp_path):
        noisy = np.random.default_rng(0).normal(3000, 40, (BLOCK, *SHAPE)).astype("uint16")
        sizes, codecs = {}, {}
        for name, storage in {
            "usual": {}, "off": {"shuffle": "off"}, "zstd": {"codec": "zstd"}, "zstd 6": {"codec": "zstd", "level": 6},
            "same": {"level": 5, "shuffle": "on", "chunks": "tiles of 1024"},
        }.items():  # fmt: skip
            spec = specs_of(storage=storage)["pc_ch_0/0"]
            create_array(tmp_path / name, spec)
            sizes[name] = write_block(tmp_path / name, spec, 0, noisy).stat().st_size
            blosc = zarr.open_array(tmp_path / name / "pc_ch_0/0", mode="r").compressors[0].to_dict()["configuration"]
            codecs[name] = [blosc[key] for key in ("cname", "clevel", "shuffle")]
        assert codecs == {
            "usual": ["lz4", 5, "bitshuffle"], "off": ["lz4", 5, "noshuffle"], "zstd": ["zstd", 1, "bitshuffle"],
            "zstd 6": ["zstd", 6, "bitshuffle"], "same": ["lz4", 5, "bitshuffle"],
        }  # fmt: skip
        assert max(sizes["zstd"], sizes["zstd 6"]) < sizes["usual"] < sizes["off"]
        documents = [(tmp_path / name / "pc_ch_0/0/zarr.json").read_bytes() for name in ("usual", "same")]
        assert documents[0] == documents[1]
        assert sizes["usual"] == sizes["same"]

    @pytest.mark.parametrize(("codec", "refused"), [("lz4", True), ("none", False)])
    def test_chunks_that_no_codec_takes_are_refused(self, codec, refused):
        spec = ArraySpec("pc_ch_0", "raw", 0, (9, 40000, 40000), "uint16", 4, codec, chunking="frame")
        with pytest.raises(PlanError, match=r"40000 x 40000 .* Fix: ") if refused else nullcontext():
            check_chunks([spec])
        check_chunks([replace(spec, chunking="block"), replace(spec, chunking="auto")])


class TestCreation:
    @pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
    def test_plain_zarr_opens_them_as_designed(self, tmp_path, codec):
        specs = specs_of(storage={"codec": codec})
        create(tmp_path, specs)
        written = times_of_change(tmp_path)
        for spec in specs.values():
            create_array(tmp_path, spec)
        assert times_of_change(tmp_path) == written  # the same documents, one by one
        root = zarr.open_group(tmp_path, mode="r")
        for path, spec in specs.items():
            array = root[path]
            assert (array.shape, array.dtype, array.chunks, array.shards) == (
                spec.shape, np.dtype(spec.dtype), spec.chunks, spec.shards,
            )  # fmt: skip
            assert array.metadata.dimension_names == ("t", "y", "x")
            document = json.loads((tmp_path / path / "zarr.json").read_text())
            inner = document["codecs"] if spec.shards is None else document["codecs"][0]["configuration"]["codecs"]
            assert np.dtype(spec.dtype).itemsize == 1 or inner[0]["configuration"]["endian"] == "little"
            used = codec if spec.level == 0 else "lz4"
            assert [c["name"] for c in inner] == ["bytes", *(["blosc"] if used != "none" else [])]
            if used != "none":
                assert inner[1]["configuration"]["cname"] == used
                raw, single = spec.group.startswith(("pc_", "fl_ch_")), spec.dtype == "uint8"
                shuffle = "noshuffle" if single else "bitshuffle" if raw else "shuffle"
                assert inner[1]["configuration"]["shuffle"] == shuffle

    def test_the_document_of_another_array_is_replaced_and_its_data_left_to_who_knows_what_is_recorded(self, images):
        spec = specs_of()["pc_ch_0/0"]
        file = write_block(images, spec, 0, block(spec))
        other = specs_of(storage={"codec": "zstd"})
        create(images, other)
        assert file.exists()
        assert "zstd" in (images / "pc_ch_0/0/zarr.json").read_text()

    def test_attributes_of_the_root_are_renewed(self, images):
        create(images, specs_of(), fov=3)
        assert zarr.open_group(images, mode="r").attrs["fov"] == 3


class TestBlocks:
    def test_what_is_written_is_read(self, images, spec):
        for start in range(0, FRAMES, BLOCK):
            write_block(images, spec, start, block(spec, start, seed=start))
        whole = zarr.open_array(images / spec.path, mode="r")[:]
        for start in range(0, FRAMES, BLOCK):
            stop = min(start + BLOCK, FRAMES)
            assert np.array_equal(read_frames(images, spec, start, stop), whole[start:stop])
            assert np.array_equal(whole[start:stop], block(spec, start, seed=start))

    def test_a_block_is_one_file_that_no_other_block_touches(self, images, spec):
        first = write_block(images, spec, 0, block(spec))
        before = (first.read_bytes(), first.stat().st_mtime_ns)
        second = write_block(images, spec, BLOCK, block(spec, BLOCK))
        assert first != second
        assert (first.read_bytes(), first.stat().st_mtime_ns) == before
        assert data_files(images / spec.path) == {first, second}

    def test_the_same_block_gives_the_same_bytes(self, images, spec):
        once, again = (write_block(images, spec, 0, block(spec)).read_bytes() for _ in range(2))
        assert once == again

    def test_a_block_of_zeros_has_a_file_too(self, images, spec):
        assert write_block(images, spec, 0, block(spec) * 0).exists()
        assert not read_frames(images, spec, 0, BLOCK).any()

    @pytest.mark.parametrize("torn", [b"", b"\0" * 10, "half"])
    def test_a_torn_shard_can_be_written_again(self, images, spec, torn):
        file = write_block(images, spec, 0, block(spec))
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if torn == "half" else torn)
        write_block(images, spec, 0, block(spec))
        assert file.read_bytes() == whole

    def test_what_a_killed_attempt_has_left_changes_nothing(self, images, spec):
        killed = ShardWriter(images, spec, 0)
        killed.add(block(spec)[:2])
        whole = write_block(images, spec, 0, block(spec)).read_bytes()
        assert (read_frames(images, spec, 0, BLOCK) == block(spec)).all()
        killed.add(block(spec)[2:])  # it was only taken for dead
        assert killed.file.read_bytes() == whole
        assert data_files(images / spec.path) == {killed.file}

    def test_a_shard_appears_with_its_last_frame_and_with_its_checksum(self, images, spec):
        writer = ShardWriter(images, spec, 1)
        for k in range(BLOCK):
            assert not writer.file.exists()
            assert writer.checksum is None
            writer.add(block(spec, BLOCK)[k : k + 1])
        assert writer.checksum == checksum(writer.file)

    @pytest.mark.parametrize("chunks", ["auto", "block", "tiles of 100"])
    def test_rows_give_the_bytes_of_frames(self, images, chunks):
        spec = specs_of(storage={"chunks": chunks})["fl_background_ch_1/0"]
        whole = write_block(images, spec, 0, block(spec)).read_bytes()
        for rows in (spec.chunks[1], 2 * spec.chunks[1], SHAPE[0]):
            writer = ShardWriter(images, spec, 0)
            for frame in block(spec):
                assert writer.checksum is None
                for row in range(0, SHAPE[0], rows):
                    writer.add_rows(row, frame[row : row + rows])
            assert writer.file.read_bytes() == whole
            assert writer.checksum == checksum(writer.file)

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize(
        ("row", "change"),
        [
            (0, lambda rows: rows[:-1]),
            (100, lambda rows: rows),
            (0, lambda rows: rows[:, :-1]),
            (0, lambda rows: rows.astype("float64")),
            (0, lambda rows: np.concatenate([rows] * 9)),
        ],
        ids=["part of a chunk", "later ones", "too narrow", "another type", "too many"],
    )
    def test_rows_that_are_not_the_next_ones_are_refused(self, images, first, row, change):
        spec = specs_of(storage={"chunks": "tiles of 100"})["fl_background_ch_1/0"]
        writer, height = ShardWriter(images, spec, 0), spec.chunks[1]
        rows = block(spec)[0, :height]
        if first:
            writer.add_rows(0, rows)
        with pytest.raises(StoreError, match="do not fit as rows"):
            writer.add_rows(row + first * height, change(rows))
        if first:
            with pytest.raises(StoreError, match="do not fit as frames"):
                writer.add(block(spec)[:1])
        writer.drop()
        assert not data_files(images / spec.path)

    def test_a_shard_that_is_given_up_leaves_nothing(self, images, spec):
        before = write_block(images, spec, 0, block(spec, seed=1)).read_bytes()
        writer = ShardWriter(images, spec, 0)
        writer.add(block(spec)[:3])
        writer.drop()
        assert {file.name for file in (images / spec.path).iterdir()} == {"c.0.0.0", "zarr.json"}
        assert writer.file.read_bytes() == before

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: np.concatenate([data, data[:1]]),
            lambda data: data[:, :-1],
            lambda data: data.astype("int64"),
            lambda data: data.astype("float16"),
            lambda data: data[0],
        ],
    )
    def test_what_is_not_of_the_block_is_refused(self, images, spec, change):
        writer = ShardWriter(images, spec, 0)
        with pytest.raises(StoreError, match="do not fit as frames 0 to"):
            writer.add(change(block(spec)))
        writer.drop()
        assert not data_files(images / spec.path)

    def test_no_frame_fits_after_the_last_one(self, images, spec):
        write_block(images, spec, 8, block(spec, 8))
        writer = ShardWriter(images, spec, 2)
        writer.add(block(spec, 8)[:1])
        with pytest.raises(StoreError, match="do not fit as frames 1 to 2 of a block"):
            writer.add(block(spec, 8))
        writer.drop()

    def test_a_torn_shard_is_an_error_and_not_zeros(self, images, spec):
        write_block(images, spec, 0, block(spec)).write_bytes(b"torn")
        with pytest.raises(StoreError, match="shard"):
            read_frames(images, spec, 0, BLOCK)

    def test_a_missing_shard_is_an_error_and_not_zeros(self, images, spec):
        with pytest.raises(StoreError, match="the shard is gone"):
            read_frames(images, spec, 0, BLOCK)

    def test_a_damaged_or_missing_document_changes_no_pixel(self, images, spec):
        document = images / spec.path / "zarr.json"
        for content in (document.read_bytes().replace(b"523", b"522"), b"?", None):
            document.unlink() if content is None else document.write_bytes(content)
            write_block(images, spec, 0, block(spec, seed=3))
            assert np.array_equal(read_frames(images, spec, 0, BLOCK), block(spec, seed=3))


class TestPieces:
    """A block that is written some frames after the other."""

    @pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
    @pytest.mark.parametrize("path", ["pc_ch_0/0", "seg_labeled_ch_0/0", "fl_background_ch_1/tiles", "fl_ch_1/1"])
    @pytest.mark.parametrize("length", [1, 3])
    def test_the_file_is_that_of_one_assignment(self, tmp_path, codec, path, length):
        specs = specs_of(storage={"codec": codec})
        create(tmp_path, specs)
        for start, seed in ((0, 1), (8, 2)):
            data = block(specs[path], start, seed)
            data[1] = 0
            whole = write_block(tmp_path, specs[path], start, data).read_bytes()
            assert write_block(tmp_path, specs[path], start, data, length).read_bytes() == whole
            for k in range(0, len(data), length):
                stop = min(k + length, len(data))
                assert np.array_equal(read_frames(tmp_path, specs[path], start + k, start + stop), data[k:stop])

    @pytest.mark.parametrize("direct", [False, True])
    def test_frames_are_read_in_any_order_and_the_checksum_is_that_of_the_file(self, images, spec, direct):
        file = write_block(images, spec, BLOCK, block(spec, BLOCK), direct=direct)
        for order in (range(BLOCK), (2, 0, 3), ()):
            reader = ShardReader(images, spec, 1, direct=direct)
            for k in order:
                out = np.empty((1, *spec.shape[1:]), spec.dtype)
                reader.read(k, out)
                assert np.array_equal(out[0], block(spec, BLOCK)[k])
            assert reader.checksum() == checksum(file)
            reader.close()

    def test_every_chunk_of_zeros_is_there_too(self, images):
        file = write_block(images, specs_of()["pc_ch_0/0"], 8, np.zeros((2, *SHAPE), "uint16"), 1)
        index = np.frombuffer(file.read_bytes()[-16 * BLOCK - 4 : -4], "<u8").reshape(BLOCK, 2)
        assert [bool(length != 2**64 - 1) for _, length in index] == [True, True, False, False]


class TestDamage:
    """Shards with wrong bytes: an error, and never a crash or another frame."""

    @pytest.mark.parametrize("name", ["auto", "tiles", "block", "none"])
    def test_any_flipped_byte_is_an_error_or_has_another_checksum(self, tmp_path, name):
        spec = replace(specs_of(storage=FORMS[name][0])["pc_ch_0/0"], shape=(FRAMES, 40, 50))
        file = write_block(tmp_path, spec, 0, block(spec))
        whole, recorded = file.read_bytes(), checksum(file)
        rng, out, refused = np.random.default_rng(0), np.empty((BLOCK, 40, 50), "uint16"), 0
        for k in [*rng.integers(0, len(whole), 150).tolist(), *range(len(whole) - 80, len(whole)), *range(20)]:
            torn = bytearray(whole)
            torn[k] ^= int(rng.integers(1, 256))
            file.write_bytes(torn)
            try:
                with closing(ShardReader(tmp_path, spec, 0)) as reader:
                    reader.read(0, out)
                    assert reader.checksum() != recorded
            except StoreError:
                refused += 1
        assert refused >= 20  # the index at least

    @pytest.mark.parametrize("length", [0, 3, 70, -1, -30])
    def test_a_shard_that_ends_too_early_is_damaged(self, images, length):
        spec = specs_of()["pc_ch_0/0"]
        file = write_block(images, spec, 0, block(spec))
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(StoreError, match="the shard is damaged"):
            read_frames(images, spec, 0, BLOCK)

    def test_a_frame_that_is_absent_is_an_error_and_not_zeros(self, images):
        spec = specs_of()["pc_ch_0/0"]
        writer = ShardWriter(images, spec, 2)  # the last block has two frames
        writer.add(np.full((1, *SHAPE), 7, "uint16"))
        writer.add(np.full((1, *SHAPE), 7, "uint16"))
        writer.file.rename(spec.shard_file(images, 0))
        with pytest.raises(StoreError, match="its index has no frame 2"):
            read_frames(images, spec, 0, BLOCK)
        assert (read_frames(images, spec, 0, 2) == 7).all()


class TestOtherPrograms:
    """A finished run, as others open it."""

    @pytest.fixture
    def images(self, finished):
        return finished / "fov_000" / "images.zarr"

    GROUPS = ("pc_ch_0", "fl_ch_1", "seg_labeled_ch_0", "seg_tracked_ch_0", "fl_background_ch_1")

    @pytest.mark.parametrize("group", GROUPS)
    def test_ome_zarr_reads_every_channel(self, images, group):
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        nodes = {node.zarr.basename(): node for node in Reader(parse_url(images / group))()}
        node = nodes.pop(group)
        assert set(nodes) == ({"pc_ch_0"} if group.startswith("seg_") else set())
        assert len(node.data) == 1
        assert np.array_equal(
            np.asarray(node.data[0]), zarr.open_array(images / group / "0", mode="r")[:], equal_nan=True
        )
        assert [axis["name"] for axis in node.metadata["axes"]] == ["t", "y", "x"]
        assert [axis["unit"] for axis in node.metadata["axes"]] == ["minute", "micrometer", "micrometer"]
        assert node.metadata["coordinateTransformations"][0][0]["scale"] == pytest.approx([10.0, 0.65, 0.65])

    @pytest.mark.parametrize("level", [0, 1])
    @pytest.mark.parametrize("group", GROUPS)
    def test_tensorstore_reads_every_array(self, images, group, level):
        import tensorstore

        path = images / group / str(level)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        array = tensorstore.open(spec, open=True).result()
        assert np.array_equal(array.read().result(), zarr.open_array(path, mode="r")[:], equal_nan=True)

    @pytest.mark.parametrize("group", GROUPS)
    def test_label_groups_say_so_and_name_their_image(self, images, group):
        ome = zarr.open_group(images / group, mode="r").attrs["ome"]
        assert ome["version"] == "0.5"
        assert ("image-label" in ome) == group.startswith("seg_")
        if "image-label" in ome:
            assert (images / group / ome["image-label"]["source"]["image"]).resolve() == images / "pc_ch_0"

    def test_nothing_but_zarr_is_in_the_stores(self, finished):
        for store in (*finished.glob("fov_*/images.zarr"), *finished.glob("fov_*/cells.zarr")):
            files = [p.relative_to(store) for p in store.rglob("*") if p.is_file()]
            names = r"/([01]|tiles)/c[./]|^metadata/.*/c[./]"
            assert all(p.name == "zarr.json" or re.search(names, p.as_posix()) for p in files)


SUFFIXES = pytest.mark.parametrize("name", ["cells.zarr", "cells.zarr.zip"])


def opened(path):
    return zarr.open_group(ZipStore(path) if path.suffix == ".zip" else path, mode="r")


class TestCells:
    @SUFFIXES
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32"])
    @pytest.mark.parametrize("shape", [(2, 3, 4), (4, 0, 3), (0, 5, 4), (1, 1, 1)])
    def test_arrays_read_back(self, tmp_path, dtype, shape, name):
        array = (np.random.default_rng(0).random(shape) * 200 > 100 if dtype == "bool" else
                 (np.random.default_rng(0).random(shape) * 200).astype(dtype))  # fmt: skip
        with CellsWriter(tmp_path / name) as writer:
            writer.metadata(np.zeros(0), np.zeros((0, 3, 4)), np.zeros((0, 3), bool), {})
            writer.crop("mask", 7, [array])
        found = opened(tmp_path / name)["mask/7/0"]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found[:], array)
        assert found.metadata.dimension_names == ("t", "y", "x")

    @SUFFIXES
    @pytest.mark.parametrize("array", [np.arange(6, dtype=">i4"), np.arange(12, dtype="float32").reshape(3, 4).T])
    def test_byte_order_and_strides_do_not_matter(self, tmp_path, array, name):
        array = np.broadcast_to(array, (2, *(2 - array.ndim) * (1,), *array.shape))
        with CellsWriter(tmp_path / name) as writer:
            writer.metadata(np.zeros(0), np.zeros((0, 3, 4)), np.zeros((0, 3), bool), {})
            writer.crop("mask", 7, [array])
        assert np.array_equal(opened(tmp_path / name)["mask/7/0"][:], array)

    @SUFFIXES
    @pytest.mark.parametrize("others", [False, True])
    def test_its_checksum_is_that_of_the_store(self, tmp_path, name, others):
        if others and name == "cells.zarr":
            (tmp_path / name).mkdir()
            (tmp_path / name / "mine.txt").write_text("of a user")
        with CellsWriter(tmp_path / name) as writer:
            writer.metadata(np.zeros(1), np.zeros((1, 3, 4)), np.ones((1, 3), bool), {"fov": 3})
            writer.product("mask", None)
            writer.crop("mask", 7, [np.ones((3, 5, 6), "uint8"), np.ones((3, 2, 3), "uint8")])
        known = name != "cells.zarr" or not others
        assert writer.checksum == (checksum(tmp_path / name) if known else None)

    @SUFFIXES
    def test_the_store_appears_whole(self, tmp_path, name):
        with CellsWriter(tmp_path / name) as writer:
            writer.product("mask", None)
            assert not (tmp_path / name).exists()
        assert [p.name for p in tmp_path.iterdir()] == [name]

    @SUFFIXES
    def test_a_failure_on_the_way_leaves_what_was_there(self, tmp_path, name):
        path = tmp_path / name
        path.mkdir()
        (path / "old").touch()

        def fail():
            with CellsWriter(path) as writer:
                writer.product("mask", None)
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {name, f"{name}/old"}

    @SUFFIXES
    def test_the_first_failure_counts_and_the_file_is_closed(self, tmp_path, monkeypatch, name):
        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fail():
            with CellsWriter(tmp_path / name) as writer:
                stores.append(writer._store)
                writer.product("mask", None)
                monkeypatch.setattr(os, "fsync", refuse)
                monkeypatch.setattr(crops, "flush_below", refuse)
                raise RuntimeError("half way")

        stores = []
        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert list(tmp_path.iterdir()) == []
        assert all(store._file.closed for store in stores if isinstance(store, crops.ZipFile))

    @SUFFIXES
    def test_a_store_that_is_there_is_replaced(self, tmp_path, name):
        path = tmp_path / name
        for cells in ([1, 2], [5]):
            with CellsWriter(path) as writer:
                n = len(cells)
                writer.metadata(np.array(cells), np.zeros((n, 3, 4)), np.ones((n, 3), bool), {"fov": 0})
                writer.product("pc_ch_0", Scale(2.0, 3.0))
                for cell in cells:
                    writer.crop("pc_ch_0", cell, [np.full((3, 4, 5), cell, "float32"), np.zeros((3, 2, 2), "uint8")])
        group = opened(path)
        assert sorted(group["pc_ch_0"].group_keys()) == ["5"]
        assert dict(group["pc_ch_0"].attrs) == {"offset": 2.0, "scale": 3.0}
        assert np.array_equal(group["pc_ch_0/5/0"][:], np.full((3, 4, 5), 5))
        assert group["metadata/cell_ids"][:].tolist() == [5]
        assert [p.name for p in tmp_path.iterdir()] == [name]

    @SUFFIXES
    def test_a_store_without_cells(self, tmp_path, name):
        with CellsWriter(tmp_path / name) as writer:
            writer.metadata(np.zeros(0), np.zeros((0, 3, 4)), np.zeros((0, 3), bool), {})
        group = opened(tmp_path / name)
        assert [group[f"metadata/{array}"].shape for array in ("cell_ids", "bboxes", "valid_frames")] == [
            (0,), (0, 3, 4), (0, 3),
        ]  # fmt: skip
        assert group["metadata/valid_frames"].dtype == bool


class TestScratch:
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
    def test_lists_of_arrays_read_back(self, tmp_path_factory, lengths):
        arrays = [np.arange(4 * n).reshape(n, 4) for n in lengths]
        ids = [np.arange(n) for n in lengths]
        path = intermediate.save(tmp_path_factory.mktemp("s") / "a.npz", **intermediate.ragged(boxes=arrays, ids=ids))
        held = intermediate.load(path)
        for name, given_arrays in (("boxes", arrays), ("ids", ids)):
            found = intermediate.by_frame(held, name)
            assert len(found) == len(lengths)
            assert all(np.array_equal(a, b) for a, b in zip(found, given_arrays, strict=True))

    def test_a_file_that_is_gone_is_named(self, tmp_path):
        with pytest.raises(StoreError, match=r"gone\.npz: is missing"):
            intermediate.load(tmp_path / "gone.npz")

    def test_histograms_of_several_products_share_a_file(self, tmp_path):
        path, levels = tmp_path / "levels.npz", {"a": WholeLevels(), "b": WholeLevels()}
        for k, one in enumerate(levels.values()):
            one.add(np.random.default_rng(k).integers(0, 1000, (2, 5, 5)).astype("uint16"))
        intermediate.save_levels(path, {name: one.histogram() for name, one in levels.items()})
        for name, one in levels.items():
            assert intermediate.load_levels([path], name).window() == one.histogram().window()
