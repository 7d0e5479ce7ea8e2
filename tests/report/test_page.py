"""The pages of runs: complete ones, and those that are older, partial, failed, without cells, or with odd names."""

import errno
import json
import os
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from support.movies import as_czi, change_plan, config, write_config
from support.summaries import made_summary

import pyama_dask
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.files.palette import TOO_LARGE, rgb
from pyama_dask.report import page as page_module
from pyama_dask.report import write_fov_page, write_report_page
from pyama_dask.report.facts import read_facts
from pyama_dask.report.thumbnails import picture_of
from pyama_dask.runs import final_page
from pyama_dask.runs.status import REPORT
from pyama_dask.store import intermediate
from pyama_dask.store.drop_maps import TOO_LARGE as TOO_LARGE_MAPS
from pyama_dask.store.drop_maps import save_maps
from pyama_dask.store.summary import save_summary, summary_file
from pyama_dask.workflow.task import WORK, fov_name


class Outline(HTMLParser):
    """Check of a page: every tag is closed, and nothing is loaded."""

    VOID = ("meta", "img", "br", "image", "path", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & {*self.open}:
            self.words.append(data)


def read(path):
    """Text of a page for readers, after checking its structure."""
    text = path.read_text()
    outline = Outline(text)
    assert all(re.match(r"data:image/|#|fov_\d+\.html|report\.html", address) for address in outline.addresses)
    assert "http" not in text.replace("http-equiv", "")
    return " ".join(" ".join(outline.words).split())


def summarise(output, fov, frames=10, **changes):
    work = output / WORK / fov_name(fov)
    work.mkdir(parents=True, exist_ok=True)
    save_summary(work, made_summary(frames, **changes))


def edit(path, change):
    """Change a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


class TestRunPage:
    def test_it_shows_state_findings_fovs_figures_and_settings(self, copied):
        summarise(copied, 0, lost=np.full(10, 0.61), too_large=np.ones(10, int))
        summarise(copied, 1)
        words = read(write_report_page(copied))
        assert "All 2 FOVs are done." in words
        assert "Cells merged in FOV 0: one object covers 61% of the frame, dropped as too large" in words
        for word in (
            "Cells per frame",
            "Lengths of tracks",
            "GFP: intensity total",
            "Focus: sharpness",
            "Light: level of GFP",
        ):
            assert word in words
        assert "tracks dropped: short (min_frames 5)" in words
        assert "tracking iou, min_frames 5, border_margin 5" in words
        assert "ingest is copying, segmentation" in words
        for word in ("Cells to look at", "extraction", "processing_config.yaml", "digest of its content"):
            assert word in words
        text = (copied / "report.html").read_text()
        assert text.count("<img") == 2
        assert "dropped as too large" in words.partition("Fields of view")[2].partition("All FOVs in numbers")[0]
        assert text.index("#fov-0") < text.index("#fov-1")

    def test_pictures_show_what_was_dropped_as_too_large(self, copied):
        summarise(copied, 0)
        run = read_facts(copied)
        before = picture_of(run, 0, 5, 1000, None)
        large = np.zeros(before.shape[:2], bool)
        large[40:90, 20:80] = True
        save_maps(intermediate.block_file(copied / WORK / fov_name(0), TOO_LARGE_MAPS, 1), [None, large, None, None])
        after = picture_of(run, 0, 5, 1000, None)
        ink = np.array(rgb(TOO_LARGE))
        tinted = (after == np.round(before * 0.55 + ink * 0.45)).all(-1)
        assert tinted[41:89, 21:79].mean() > 0.8  # all but outlines of tracks
        assert (after[40, 20:80] == ink).all(-1).mean() > 0.8
        assert (after == before)[~large].all()

    def test_fovs_of_an_older_version_have_no_summaries(self, copied):
        for fov in (0, 1):
            summary_file(copied / WORK / fov_name(fov)).unlink(missing_ok=True)
        words = read(write_report_page(copied))
        assert "Focus, light and cells are not judged" in words
        assert "Over time" not in words
        cells = sum(fov["cells"] for fov in pyama_dask.open_output(copied).status()["fovs"])
        assert f"All 2 FOVs are done. {cells} cells kept." in words

    def test_a_damaged_summary_and_missing_records_are_left_out(self, copied):
        summarise(copied, 0)
        summary_file(copied / WORK / fov_name(0)).write_bytes(b"PK\3\4 cut off")
        (copied / REPORT).write_text("{")
        (copied / "processing_config.yaml").write_text("input: [")
        words = read(write_report_page(copied))
        assert "All 2 FOVs are done." in words
        assert "processing_config.yaml: is missing or damaged, so settings are not shown" in words
        assert "summary.npz: is missing or damaged. Fix: run 'pyama-dask verify --deep'" in words

    def test_damaged_fields_of_the_last_run_are_left_out(self, copied):
        edit(copied / REPORT, lambda report: report.update(seconds="x", warnings=[None, 3], jobs=[], stopped=7))
        assert "All 2 FOVs are done." in read(write_report_page(copied))

    def test_no_other_file_than_a_page_is_replaced(self, copied, tmp_path):
        movie = tmp_path / "movie.czi"
        movie.write_bytes(b"pixels")
        for write in (lambda: write_report_page(copied, movie, force=True),
                      lambda: write_fov_page(copied, 0, movie, force=True)):  # fmt: skip
            with pytest.raises(ConfigError, match=r"a report is written as \.html\. Fix: choose this ending"):
                write()
        assert movie.read_bytes() == b"pixels"

    def test_names_from_files_are_text(self, copied):
        nasty = "<script>alert(1)</script>"

        def rename(plan):
            plan["fovs"][0]["name"] = nasty
            plan["warnings"] = [f"{nasty} & more"]

        change_plan(copied, rename)
        summarise(copied, 0)
        written = write_report_page(copied).read_text()
        assert nasty not in written
        assert unescape(written).count(nasty) >= 3
        assert nasty not in write_fov_page(copied, 0).read_text()

    def test_a_run_that_stopped_says_so_in_its_first_sentence(self, copied):
        edit(copied / REPORT, lambda report: report.update(stopped="disk full"))
        words = read(write_report_page(copied))
        assert "The run stopped early, with 2 of 2 FOVs done" in words
        assert "The run stopped: disk full" in words

    def test_a_run_with_hardly_a_cell_says_what_to_do(self, copied):
        edit(copied / REPORT, lambda report: report.update(attention="HARDLY ANY CELLS: 1. Fix: look", tasks=0))
        words = read(write_report_page(copied))
        assert "HARDLY ANY CELLS: 1. Fix: look" in words
        assert "The last run took" not in words  # it had nothing to do

    def test_one_frame_and_no_cell(self, copied):
        for fov in (0, 1):
            summarise(
                copied, fov, 1, found=np.zeros(1, int), kept=np.zeros(1, int), tracks=0, cells=0, short=0, border=0,
                quantiles=np.full((2, 5, 1), np.nan),
            )  # fmt: skip
        assert "No cell found in FOVs 0-1" in read(write_report_page(copied))

    def test_fovs_with_other_frames_than_most_are_not_drawn_with_them(self, copied):
        summarise(copied, 0, 10)
        summarise(copied, 1, 7)
        assert "Cells per frame" in read(write_report_page(copied))

    def test_another_file_of_the_user_stays(self, copied):
        (copied / "report.html").write_text("mine")
        with pytest.raises(OutputError, match="was not written by pyama_dask"):
            write_report_page(copied)
        assert (copied / "report.html").read_text() == "mine"
        write_report_page(copied, force=True)
        write_report_page(copied)  # it is ours now
        assert "All 2 FOVs" in read(copied / "report.html")

    def test_it_is_no_output(self, tmp_path):
        with pytest.raises(OutputError, match="holds no run"):
            write_report_page(tmp_path)
        assert list(tmp_path.iterdir()) == []


def drawn(text, title):
    """Values of the line in the first figure of a title, by the labels of its ticks."""
    figure = text[text.index(f"<h3>{title}</h3>") :].partition("</figure>")[0]
    ticks = re.findall(r'class="grid" d="M[\d.]+ ([\d.]+)H.*?class="y"[^>]*>([^<]+)<', figure)
    unit = {"k": 1e3, "M": 1e6, "G": 1e9}
    (y0, v0), (y1, v1) = ((float(y), float(v.rstrip("kMG")) * unit.get(v[-1], 1)) for y, v in (ticks[0], ticks[-1]))
    (path,) = re.findall(r'class="line [^"]*" d="M([^"]*)"', figure)
    found = [v0 + (float(y) - y0) * (v1 - v0) / (y1 - y0) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
    return np.array(found), abs(v1 - v0) / abs(y1 - y0)


class TestNumbers:
    """Numbers of pages equal those computed from the CSVs."""

    @pytest.fixture
    def traces(self, finished):
        return pyama_dask.open_output(finished).traces()

    def rows(self, path):
        table = path.read_text().rpartition('<table class="sortable">')[2] if "fov_" in path.name else path.read_text()
        found = re.findall(r"<tr(?: id=\"fov-\d+\")?><td class=\"n\" data-value.*?</tr>", table)
        return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in found]

    def test_cells_of_all_fovs(self, finished, traces, tmp_path):
        path = write_report_page(finished, tmp_path / "page.html")
        cells = traces.groupby("fov")["cell"].nunique()
        assert {int(row[0]): int(row[3]) for row in self.rows(path)} == cells.to_dict()
        assert f"{cells.sum()} cells kept of" in read(path)
        lengths = re.search(r"kept \((\d+)\)", path.read_text())
        assert int(lengths[1]) == cells.sum()

    def test_cells_of_every_frame(self, finished, traces, tmp_path):
        for fov, of in traces.groupby("fov"):
            rows = self.rows(write_fov_page(finished, fov, tmp_path / f"fov_{fov}.html"))
            labels = np.asarray(pyama_dask.open_output(finished)[fov].image("seg_labeled_ch_0").data)
            assert [int(row[2]) for row in rows] == [len(np.unique(frame)) - 1 for frame in labels]
            assert {int(row[0]): int(row[3]) for row in rows} == of.groupby("frame").size().to_dict()

    def test_lines_of_features(self, finished, traces, tmp_path):
        text = write_report_page(finished, tmp_path / "page.html").read_text()
        for title, column in (("GFP: intensity total", "intensity_total_ch_1"), ("Phase: area", "area_ch_0")):
            medians = traces.groupby(["fov", "frame"])[column].median().groupby("frame").median()
            values, pixel = drawn(text, title)
            assert np.abs(values - medians).max() < 0.1 * pixel + 1e-9


class TestFovPage:
    def test_it_shows_frames_traces_and_numbers(self, copied):
        summarise(copied, 1, sharpness=np.r_[np.full(5, 900.0), np.full(5, 100.0)])
        path = write_fov_page(copied, 1)
        assert path == copied / "fov_001.html"
        words = read(path)
        assert "Out of focus in FOV 1 from frame 5" in words
        assert "GFP: intensity total" in words
        text = path.read_text()
        assert text.count("<img") == 5
        assert 'href="report.html"' in text
        cells = pyama_dask.open_output(copied)[1].traces()["cell"].nunique()
        assert f"One thin line per kept cell ({cells})" in words
        assert text.count('<tr><td class="n"') == 10

    def test_the_report_links_to_it_until_there_are_newer_results(self, copied):
        report = write_report_page(copied)
        assert 'href="fov_001.html"' not in report.read_text()
        write_fov_page(copied, 1)
        text = report.read_text()
        assert text.count('href="fov_001.html"') == 2  # its picture, and its row in the table
        assert text.count('href="#fov-0"') == 1
        elsewhere = write_report_page(copied, copied.parent / "pages" / "all.html").read_text()
        assert f'href="../{copied.name}/fov_001.html"' in elsewhere
        os.utime(copied / "fov_001.html", (0, 0))
        assert "fov_001.html" not in write_report_page(copied).read_text()

    def test_a_report_that_was_changed_stays(self, copied):
        (report := write_report_page(copied)).write_text("mine")
        write_fov_page(copied, 1)
        assert report.read_text() == "mine"

    def test_without_any_object(self, copied):
        work = copied / WORK / "fov_000"
        nothing = {"boxes": np.zeros((0, 4), np.int32), "ids": np.zeros(0, np.int64), "lengths": np.zeros(10, np.int64)}
        intermediate.save(intermediate.tracks_file(work), **nothing)
        intermediate.save(intermediate.cells_file(work), ids=np.zeros(0, np.int64))
        path = write_fov_page(copied, 0)
        assert read(path)
        assert path.read_text().count("<img") == 5
        assert 'data-value="nan"' not in path.read_text()

    def test_without_summary_and_intermediate_files(self, copied):
        for file in (copied / WORK / "fov_000").glob("*.npz"):
            file.unlink()
        assert "Traces" in read(write_fov_page(copied, 0))

    def test_traces_that_were_changed_are_named(self, copied):
        (table,) = (copied / "fov_000").glob("*_traces.csv")
        table.write_text(table.read_text() + "\n")
        assert "verify --deep" in read(write_fov_page(copied, 0))

    def test_an_unknown_fov_is_refused(self, copied):
        with pytest.raises(OutputError, match="has no FOV 7"):
            write_fov_page(copied, 7)


class TestEndOfARun:
    @pytest.fixture
    def run_yaml(self, tmp_path, small_czi):
        changes = {"params.fovs": "0", "params.frames": "0-3", "params.tracking_params.min_frames": 2}
        return write_config(tmp_path / "run.yaml", config(small_czi, tmp_path / "out", changes))

    def test_the_last_line_names_the_page(self, run_yaml, tmp_path, call, with_pages):
        status, out, _ = call("run", run_yaml)
        assert status == 0
        assert out.splitlines()[-1] == f"Report: {tmp_path / 'out' / 'report.html'}"
        assert "The FOV is done." in read(tmp_path / "out" / "report.html")
        first = (tmp_path / "out" / "report.html").read_bytes()
        assert call("run", run_yaml, "--set", "params.background_weight=0.5")[0] == 0
        assert (tmp_path / "out" / "report.html").read_bytes() != first

    def test_a_failed_fov_is_explained(self, tmp_path, small_pixels, call, with_pages):
        data = as_czi(tmp_path / "movie.czi", small_pixels[:, :4, :1])
        changes = {
            "channels.fl": [],
            "params.segmentation_method": f"{tmp_path}/broken.py:broken",
            "params.segmentation_params": {},
        }
        (tmp_path / "broken.py").write_text("def broken(image):\n    raise ValueError('no cells <here>')\n")
        status, _, _ = call("run", write_config(tmp_path / "run.yaml", config(data, tmp_path / "out", changes)))
        assert status == 3
        words = read(tmp_path / "out" / "report.html")
        assert "0 of 2 FOVs are done (2 failed)" in words
        assert "2 FOVs failed: reasons and fixes" in words
        assert "no cells <here>" in words
        assert "--retry-failed" in words

    def test_a_run_that_copies_only_has_no_cells_to_report(self, tmp_path, small_pixels, call, with_pages):
        data = as_czi(tmp_path / "movie.czi", small_pixels[:1, :3])
        changes = {"params.copy_only": True, "params.tracking_params": {}}
        assert call("run", write_config(tmp_path / "run.yaml", config(data, tmp_path / "out", changes)))[0] == 0
        words = read(tmp_path / "out" / "report.html")
        assert "The run copies frames and finds no cells." in words
        assert "Cells to look at" not in words
        assert "Nothing stands out. Frames of all FOVs were compared" in words
        assert read(write_fov_page(tmp_path / "out", 0))

    def test_a_partial_run(self, run_yaml, tmp_path, call, with_pages):
        assert call("run", run_yaml, "--steps", "copy,segment")[0] == 0
        assert "0 of 1 FOV is done (1 partial)" in read(tmp_path / "out" / "report.html")
        assert read(write_fov_page(tmp_path / "out", 0))

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("a bug")])
    def test_a_page_that_cannot_be_written_changes_nothing_else(
        self, run_yaml, tmp_path, call, with_pages, monkeypatch, error
    ):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(page_module, "write_page", fail)
        status, out, _ = call("run", run_yaml)
        assert status == 0
        assert out.splitlines()[-1] == f"Report: 'pyama-dask report {tmp_path / 'out'}' writes it"
        assert "the report could not be written" in (tmp_path / "out" / WORK / "log.txt").read_text()

    def test_a_users_report_stays_with_a_warning(self, run_yaml, tmp_path, call, with_pages):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.html").write_text("mine")
        assert call("run", run_yaml, "--into")[0] == 0
        assert (tmp_path / "out" / "report.html").read_text() == "mine"
        assert "was not written by pyama_dask" in (tmp_path / "out" / WORK / "log.txt").read_text()

    def test_after_a_cancel_there_is_none(self, with_pages, finished):
        report = pyama_dask.RunReport(finished, (), (), 0, 0, 0.0, cancelled=True)
        assert final_page.write_final_page(report) is None
        assert final_page.write_final_page(replace(report, cancelled=False, output=finished / "gone")) is None


def test_the_command_writes_pages_and_says_where(copied, tmp_path, call):
    assert call("report", copied)[:2] == (0, f"Report: {copied / 'report.html'}\n")
    assert call("report", copied, "--fov", 1)[:2] == (0, f"Report: {copied / 'fov_001.html'}\n")
    assert call("report", copied, "-o", tmp_path / "page.html")[0] == 0
    assert call("report", copied, copied)[:2] == (0, f"Report: {copied / 'report.html'}\n" * 2)
    status, _, error = call("report", copied, copied, "-o", tmp_path / "both.html")
    assert (status, "names one page, but there are 2 outputs. Fix: leave it out" in error) == (2, True)
    assert call("report", copied, "--fov", 9)[0] == 2
    (tmp_path / "page.html").write_text("changed")
    status, _, error = call("report", copied, "-o", tmp_path / "page.html")
    assert status == 2
    assert "--force" in error
