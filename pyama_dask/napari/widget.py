"""Dock widget for napari: chooses FOVs, marks cells good or bad, shows their traces, and saves corrected labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QMessageBox, QPushButton, QVBoxLayout, QWidget

from pyama_dask.analysis.fov import Fov
from pyama_dask.analysis.output import Output, open_output
from pyama_dask.analysis.overrides import GOOD, set_override
from pyama_dask.errors import PyamaError
from pyama_dask.napari.cells import Cells, cells_of
from pyama_dask.napari.corrections import annotation_name, labels_to_correct, save_corrected
from pyama_dask.napari.layers import OURS, fov_layers, napari_colormap
from pyama_dask.napari.trace_plot import TracePlot
from pyama_dask.runs.annotate import LABELS_END

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.viewer import Viewer

KEYS = {"Y": "good", "N": "bad", "U": "unmark", ",": "previous cell", ".": "next cell"}
"""Keys, and what they do to the chosen cell."""
STILL = 4
"""Pixels of the screen that the mouse may move in a click."""


class CellsWidget(QWidget):
    """Cells of the FOV that is shown.

    Parameters
    ----------
    napari_viewer
        The viewer; napari passes it by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.output: Output | None = None
        self.fov: Fov | None = None
        self.cells: Cells | None = None
        self.cell: int | None = None
        self._build()
        self._bind()
        self.follow()

    # ------------------------------------------------------------------------------------------ making it

    def _build(self) -> None:
        self.fovs, self.feature, self.state, self.plot = QComboBox(), QComboBox(), QLabel(), TracePlot()
        self.state.setWordWrap(True)
        self.state.setTextInteractionFlags(Qt.TextSelectableByMouse)
        self.fovs.setToolTip("FOV to show")
        self.feature.setToolTip("feature to plot")
        rows = QVBoxLayout(self)
        rows.addLayout(
            _row(_button("◀", self.previous_fov, "FOV before"), self.fovs, _button("▶", self.next_fov, "FOV after"))
        )
        rows.addLayout(_row(QLabel("Trace"), self.feature))
        rows.addWidget(self.plot)
        rows.addWidget(self.state)
        self.actions = {
            "good": lambda: self.mark(good=True),
            "bad": lambda: self.mark(good=False),
            "unmark": lambda: self.mark(None),
            "previous cell": lambda: self.step(-1),
            "next cell": lambda: self.step(1),
        }
        buttons = {name: _button(f"{name} ({key})", self.actions[name], GOOD) for key, name in KEYS.items()}
        rows.addLayout(_row(*(buttons[name] for name in ("good", "bad", "unmark"))))
        rows.addLayout(_row(*(buttons[name] for name in ("previous cell", "next cell"))))
        rows.addLayout(
            _row(
                _button("Correct labels of this frame", self.correct, "copy them to a layer, to paint in"),
                _button(
                    "Save for training ...", self.choose_and_save, "NAME.tif and NAME_labels.tif for 'pyama-dask train'"
                ),
            )
        )
        rows.addStretch(1)
        self.fovs.activated.connect(lambda index: self.show_fov(self.fovs.itemData(index)))
        self.feature.currentTextChanged.connect(lambda _: self._draw())

    def _bind(self) -> None:
        """Listen to keys, clicks, frames and layers of the viewer; until the widget is closed."""
        for key, name in KEYS.items():
            self.viewer.bind_key(key, lambda _, name=name: self.actions[name](), overwrite=True)
        self.viewer.mouse_drag_callbacks.append(self._clicked)
        self.viewer.layers.events.inserted.connect(self.follow)
        self.viewer.dims.events.current_step.connect(self._move)
        self.destroyed.connect(_unbinding(self.viewer, self._clicked, self.follow, self._move))

    # ------------------------------------------------------------------------------------------------ FOVs

    def follow(self, *_: object) -> None:
        """Take the FOV of the newest layer of an output, if it is another one."""
        ours = (layer.metadata.get(OURS) for layer in reversed(self.viewer.layers))
        if found := next(filter(None, ours), None):
            folder = Path(found["fov"])
            if self.fov is None or self.fov.directory != folder:
                with _told():
                    self._take(Fov(folder))
        elif self.fov is None:
            self.state.setText("Open an output, a FOV or a channel of pyama_dask")

    def _take(self, fov: Fov) -> None:
        self.output = open_output(fov.directory.parent)
        self.fov, self.cells, self.cell = fov, cells_of(fov), None
        self.fovs.clear()
        for number, title in self.output.titles.items():
            self.fovs.addItem(title, number)
        self.fovs.setCurrentIndex(self.output.fovs.index(fov.index))
        chosen = self.feature.currentText()
        self.feature.clear()
        self.feature.addItems(self.cells.features if self.cells else [])
        self.feature.setCurrentText(chosen or self._preferred())
        self._tell()

    def _preferred(self) -> str:
        """Feature to plot first: fluorescence, as most ask for it."""
        names = self.cells.features if self.cells else []
        return next((name for name in names if name.startswith("intensity_total")), names[0] if names else "")

    def show_fov(self, number: int) -> None:
        """Replace the layers of a FOV by those of another one."""
        if self.output is None or (self.fov is not None and number == self.fov.index):
            return
        with _told():
            fov = self.output[number]
            made = [Layer.create(*layer) for layer in fov_layers(fov)]
            for layer in [layer for layer in self.viewer.layers if OURS in layer.metadata]:
                self.viewer.layers.remove(layer)
            for layer in made:
                self.viewer.add_layer(layer)  # the first one makes the widget follow

    def previous_fov(self) -> None:
        """Show the FOV before."""
        self._step_fov(-1)

    def next_fov(self) -> None:
        """Show the FOV after."""
        self._step_fov(1)

    def _step_fov(self, by: int) -> None:
        index = self.fovs.currentIndex() + by
        if 0 <= index < self.fovs.count():
            self.show_fov(self.fovs.itemData(index))

    # ----------------------------------------------------------------------------------------------- cells

    @property
    def labels(self) -> Labels | None:
        """Layer of the tracked cells."""
        return self._layer("seg_tracked")

    def _layer(self, group: str) -> Any:
        ours = (
            layer for layer in self.viewer.layers if layer.metadata.get(OURS, {}).get("group", "").startswith(group)
        )
        return next(ours, None)

    def _clicked(self, _: Viewer, event: Any) -> Iterator[None]:
        """Choose the cell under the mouse, if it was not dragged."""
        start = np.array(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        if self.labels is None or not self.labels.visible or np.abs(np.array(event.pos, float) - start).max() > STILL:
            return
        shown, view = list(event.dims_displayed), event.view_direction
        value = self.labels.get_value(event.position, view_direction=view, dims_displayed=shown, world=True)
        if value:
            self.choose(int(value))

    def choose(self, cell: int) -> None:
        """Choose a cell, and plot its trace."""
        if self.cells is None or cell not in self.cells.ids:
            self.state.setText(f"{cell} was not kept: too few frames, or at the border")
            return
        self.cell = cell
        if self.labels is not None:
            self.labels.selected_label = cell
        self._draw()
        self._tell()

    def step(self, by: int) -> None:
        """Choose the next cell, or with -1 the one before; show a frame with it."""
        if self.cells is None:
            return
        ids = self.cells.ids.tolist()
        at = (ids.index(self.cell) + by) % len(ids) if self.cell in ids else 0
        self.choose(ids[at])
        frames = self.cells.traces["frame"][self.cells.traces["cell"] == self.cell].to_numpy()
        if self.frame not in frames:
            self._go_to(int(frames[0]))

    def mark(self, good: bool | None) -> None:
        """Mark the chosen cell good or bad in the output's `GOOD`; with None, remove the mark."""
        if self.cell is None or self.fov is None:
            show_info("No cell is chosen: click on one")
            return
        with _told():
            set_override(self.fov.directory.parent / GOOD, self.fov.index, self.cell, good)
            self._refresh()

    def _refresh(self) -> None:
        """Take over what the overrides say now: features, and colours of labels and tracks."""
        assert self.fov is not None
        self.cells = cells_of(self.fov)
        if self.cells is not None and self.labels is not None:
            self.labels.features = self.cells.table()
            self.labels.colormap = self.cells.label_colours()
        tracks = self._layer("tracks")
        if self.cells is not None and tracks is not None:
            tracks.colormaps_dict = {"rank": napari_colormap(self.cells.colours)}
            tracks.color_by = "rank"
        self._draw()
        self._tell()

    def _tell(self) -> None:
        """Say how many cells there are, and which one is chosen."""
        if self.cells is None:
            self.state.setText("This FOV has no traces")
            return
        text = f"{len(self.cells.ids)} cells, {int((~self.cells.good).sum())} bad. "
        if self.cell is None:
            text += "Click on a cell."
        else:
            at = int(np.searchsorted(self.cells.ids, self.cell))
            row = self.cells.table().iloc[at]
            text += f"Cell {self.cell}: {'good' if row['good'] else 'bad'}, frames {row['first']} to {row['last']}"
        self.state.setText(text)

    def _draw(self) -> None:
        colour = None
        if self.cells is not None and self.cell is not None:
            colour = self.cells.colours[int(np.searchsorted(self.cells.ids, self.cell))]
        self.plot.draw_trace(self.cells, self.cell, self.feature.currentText(), colour)
        self._move()

    # ---------------------------------------------------------------------------------------------- frames

    @property
    def frame(self) -> int:
        """Index of the frame that is shown."""
        layer = self._layer("")
        return 0 if layer is None else round(float(self.viewer.dims.point[0]) / float(layer.scale[0]))

    def _go_to(self, frame: int) -> None:
        layer = self._layer("")
        if layer is not None:
            self.viewer.dims.set_point(0, frame * float(layer.scale[0]))

    def _move(self, *_: object) -> None:
        self.plot.mark_frame(self.cells, self.frame)

    # --------------------------------------------------------------------------------------- corrected labels

    def correct(self) -> None:
        """Copy the labels of the frame that is shown to a layer that can be painted in."""
        if self.fov is None:
            return
        with _told():
            frame, like = self.frame, self._layer("")
            title = "" if self.output is None else self.output.titles[self.fov.index]
            name = f"labels to correct: {title}, frame {frame}"
            if name in self.viewer.layers:
                self.viewer.layers.selection.active = self.viewer.layers[name]
                return
            layer = Labels(
                labels_to_correct(self.fov, frame)[None], name=name, scale=like.scale, units=like.units,
                axis_labels=like.axis_labels, translate=(frame * like.scale[0], 0, 0), opacity=0.5,
                metadata={"pyama_dask_correction": {"fov": str(self.fov.directory), "frame": frame}},
            )  # fmt: skip
            layer.contour = 2
            for other in self.viewer.layers:
                other.visible = other.metadata.get(OURS, {}).get("group", "").startswith("pc_")
            self.viewer.add_layer(layer)
            layer.mode = "paint"
            show_info("Paint with the brush; M takes a new label, 1 the eraser. Then save it for training")

    @property
    def corrected(self) -> Labels | None:
        """Layer of corrected labels: the active one, or the newest."""
        active = self.viewer.layers.selection.active
        found = [layer for layer in self.viewer.layers if "pyama_dask_correction" in layer.metadata]
        return active if active in found else found[-1] if found else None

    def choose_and_save(self) -> None:
        """Ask for a folder, and save the corrected labels there."""
        if self.corrected is None:
            show_info("There are no corrected labels: begin with 'Correct labels of this frame'")
            return
        if folder := QFileDialog.getExistingDirectory(self, "Folder of annotated frames"):
            with _told():
                self.save(Path(folder))

    def save(self, folder: Path, confirm: Callable[[str], bool] | None = None) -> Path | None:
        """Save the corrected labels for training.

        Parameters
        ----------
        folder
            Folder of annotated frames.
        confirm
            Asked before labels that are there are replaced; None for a dialog.

        Returns
        -------
        Path of the labels; None if nothing was saved.
        """
        layer = self.corrected
        if layer is None:
            return None
        of = layer.metadata["pyama_dask_correction"]
        fov, frame = Fov(Path(of["fov"])), of["frame"]
        there = folder / f"{annotation_name(fov, frame)}{LABELS_END}"
        replace = there.exists()
        if replace and not (confirm or self._confirm)(f"Replace {there.name}?"):
            return None
        path = save_corrected(fov, frame, np.asarray(layer.data[0]), folder, replace=replace)
        show_info(f"Saved {path}. Then run 'pyama-dask train {folder} -o model.onnx'")
        return path

    def _confirm(self, question: str) -> bool:
        return bool(QMessageBox.question(self, "pyama_dask", question) == QMessageBox.Yes)


def _unbinding(viewer: Viewer, clicked: Any, follow: Any, move: Any) -> Callable[..., None]:
    """Function that stops listening to a viewer; it knows nothing of the widget, which is gone by then."""

    def unbind(*_: object) -> None:
        for key in KEYS:
            viewer.bind_key(key, None, overwrite=True)
        if clicked in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(clicked)
        viewer.layers.events.inserted.disconnect(follow)
        viewer.dims.events.current_step.disconnect(move)

    return unbind


@contextmanager
def _told() -> Iterator[None]:
    """Show an error that the user can fix as a message of napari."""
    try:
        yield
    except PyamaError as error:
        show_error(str(error))


def _button(text: str, action: Callable[[], None], tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda _=False: action())
    return button


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget, 1 if isinstance(widget, QComboBox) else 0)
    return row
