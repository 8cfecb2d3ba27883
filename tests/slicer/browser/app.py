"""The module's own logic behind a web page: what Slicer would show, without Slicer's application.

The scene, the slice views and the 3D view are Slicer's; ``scene.py``, ``logic.py`` and the engine
process are the module's; only the panel beside them is a page. So the whole way from a click to the
pixels can be tested in a browser::

    .venv-trame/bin/python tests/slicer/browser/app.py scan.nii.gz --model hippocampus-mr-stp
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import slicer
from trame.app import get_server
from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_server.utils.asynchronous import create_task
from trame_slicer.core import LayoutManager, SlicerApp, VolumesReader
from trame_slicer.rca_view import register_rca_factories

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "slicer_extension" / "SparseSeg"))

from SparseSegLib import words
from SparseSegLib.catalogue import Catalogue
from SparseSegLib.engine import Engine
from SparseSegLib.jobs import Launch, Setup
from SparseSegLib.logic import Logic, sentence_of
from SparseSegLib.orders import Listener, Order, Shown
from SparseSegLib.scene import OPACITY, ResultWriter

REPOSITORY = Path(__file__).resolve().parents[3]
POLL_SECONDS = 0.03
NONE = "none"


class App:
    """A page with the views of a scan and the controls that the module's panel has.

    Parameters
    ----------
    server : trame server
        Serves the page.
    scan : Path
        The scan to open.
    python : str
        Python of an environment that holds the engine.
    model : str
        Name of the model.
    """

    def __init__(self, server: Any, scan: Path, python: str, model: str) -> None:
        self._server, self._state = server, server.state
        self._slicer = SlicerApp()
        scene = self._slicer.scene
        colors = slicer.vtkSlicerColorLogic()
        colors.SetMRMLScene(scene)
        self._writer = ResultWriter(scene, colors)
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = (python, "-m", "napari_sparseseg.worker")
        engine = Engine(lambda: Launch(command, environment, "SparseSeg browser harness"))
        # nothing is installed from here, so nobody is asked for an installer
        self._logic = Logic(scene, self._writer, engine, installer=None)
        self._model = model
        self._shown: Shown | None = None
        self._catalogue = Catalogue()
        self._keys: dict[str, tuple[str, int | None]] = {}
        self._make_page()
        self._volume = self._open(scan)
        self._logic.catalogue(self._on_catalogue, self._on_error)
        create_task(self._poll())
        server.controller.on_server_exited.add(lambda **_: self._logic.stop())

    # The page

    def _make_page(self) -> None:
        self._state.update(
            {
                "trame__title": "SparseSeg in a browser",
                "ready": False, "busy": False, "percent": 0, "status": "Starting the engine",
                "setting": 1.0, "low": 0.05, "step": 0.05, "setting_name": "setting",
                "maps": [NONE], "map": NONE, "opacity": 1.0, "in_3d": False,
                "legend": "", "about": "", "structures": "", "figures": "", "runs": 0,
            }
        )  # fmt: skip
        for name, changed in {
            "setting": self._on_slider, "map": self._on_map, "opacity": self._show_map,
            "in_3d": self._show_3d,
        }.items():  # fmt: skip
            self._state.change(name)(lambda changed=changed, **_: changed())
        views = self._slicer.view_manager
        # PNG, so that the pixels of a screenshot are those of the view
        register_rca_factories(
            views, self._server, slice_view_ui_f=_label, three_d_view_ui_f=_label, rca_encoder="png"
        )
        layouts = LayoutManager(self._slicer.scene, views, self._server)
        layouts.register_layout_dict(LayoutManager.default_grid_configuration())
        layouts.set_layout("Axial Primary")
        with VAppLayout(self._server) as page:
            page.root.theme = "dark"
            with v3.VNavigationDrawer(permanent=True, width=330), v3.VContainer():
                self._make_panel()
            with v3.VMain(style="height: 100vh"):
                layouts.initialize_layout_grid(page)

    def _make_panel(self) -> None:
        dense = {"density": "compact", "hide_details": True}
        html.H3("SparseSeg")
        html.P("Browser harness, not the Slicer application", classes="text-caption")
        html.P("{{ setting_name }}: {{ setting.toFixed(2) }}", classes="mt-4")
        v3.VSlider(
            v_model=("setting",), min=("low",), max=1, step=("step",), disabled=("!ready",),
            classes="setting", **dense,
        )  # fmt: skip
        with v3.VRow(classes="my-2", dense=True):
            v3.VBtn(
                "{{ busy ? 'Cancel' : 'Segment' }}", click=self._on_button, disabled=("!ready",),
                color="primary", classes="apply ml-1",
            )  # fmt: skip
        v3.VProgressLinear(model_value=("percent",), active=("busy",), height=6)
        html.P("{{ status }}", classes="status text-caption")
        v3.VSelect(
            v_model=("map",), items=("maps",), label="Map", classes="map mt-4",
            variant="outlined", **dense,
        )  # fmt: skip
        html.Div(v_html="legend", classes="legend my-2")
        html.P("{{ about }}", classes="text-caption")
        v3.VSlider(
            v_model=("opacity",),
            min=0,
            max=1,
            step=0.05,
            label="opacity",
            classes="opacity",
            **dense,
        )
        v3.VSwitch(v_model=("in_3d",), label="3D", classes="in-3d", **dense)
        html.Div(v_html="structures", classes="structures my-2")
        html.Div(v_html="figures", classes="figures text-caption my-2")
        html.Div("{{ runs }} runs", classes="runs text-caption")

    # What the user does

    def _on_button(self) -> None:
        if self._state.busy:
            self._logic.cancel()
        else:
            self._segment()

    def _on_slider(self) -> None:
        if self._shown is not None:
            self._logic.preview(self._order(), lambda _: self._show_map())
            self._segment()

    def _on_map(self) -> None:
        key = self._keys.get(self._state.map)
        if key is not None and self._shown is not None:
            self._state.opacity = OPACITY[self._shown.map(key).type]
        self._show_map()

    def _segment(self) -> None:
        self._state.busy, self._state.percent = True, 0
        listener = Listener(self._on_finished, self._on_error, self._on_progress)
        self._logic.start(self._order(), listener)

    def _order(self) -> Order:
        return Order(self._volume, None, Setup(self._model, device="cpu"), self._state.setting)

    # What the module answers

    def _on_catalogue(self, catalogue: Catalogue) -> None:
        self._catalogue, model = catalogue, catalogue.model(self._model)
        control = model.control
        self._state.update(
            {
                "setting_name": control.name, "low": control.low, "step": control.step,
                "setting": model.default_setting, "ready": True, "status": model.title,
            }
        )  # fmt: skip

    def _on_progress(self, done: int, total: int, text: str) -> None:
        self._state.percent = 100 * done / total if total else 0
        self._state.status = text

    def _on_error(self, error: Exception) -> None:
        self._state.busy, self._state.status = False, sentence_of(error)

    def _on_finished(self, shown: Shown) -> None:
        first = self._shown is None
        self._shown = shown
        self._keys = {token_map.title: token_map.key for token_map in shown.answer.maps}
        self._state.maps = [*self._keys, NONE]
        if first:
            self._state.map = next(iter(self._keys))
        self._show_map()
        answer = shown.answer
        self._state.update(
            {
                "busy": False, "status": words.summary(answer.report), "runs": self._state.runs + 1,
                "structures": words.structures(answer.structures),
                "figures": words.figures_table(words.figures(answer, self._catalogue)),
            }
        )  # fmt: skip

    def _show_map(self) -> None:
        if self._shown is None:
            return
        key = self._keys.get(self._state.map)
        token_map = self._shown.map(key)
        self._state.legend = "" if token_map is None else words.legend(token_map)
        self._state.about = "" if token_map is None else token_map.about
        self._writer.show_map(self._shown.nodes, key, self._state.opacity)
        # Slicer's own slice view draws again when only an opacity has changed
        for view in self._slicer.view_manager.get_slice_views():
            view.schedule_render()

    def _show_3d(self) -> None:
        if self._shown is not None:
            self._writer.show_3d(self._shown.nodes, self._state.in_3d)
            for view in self._slicer.view_manager.get_threed_views():
                view.reset_view()

    # How it lives

    def _open(self, scan: Path) -> Any:
        slices = self._slicer
        (volume,) = VolumesReader.load_volumes(slices.scene, slices.app_logic, str(scan))
        slices.display_manager.show_volume_in_slice_background(volume)
        slices.display_manager.reset_views()
        return volume

    async def _poll(self) -> None:
        await self._server.ready
        while True:
            with self._state:
                self._logic.poll()
            await asyncio.sleep(POLL_SECONDS)


def _label(_server: Any, view_id: str, view: Any) -> None:
    """Write the name of a view into its corner."""
    html.Div(view.get_singleton_tag(), style="position: absolute; left: 6px; top: 2px;")


def main() -> None:
    """Serve the page until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path, help="the scan to open")
    parser.add_argument("--model", default="brain-mr-stp", help="name of the model")
    parser.add_argument("--engine-python", default=str(REPOSITORY / ".venv/bin/python"))
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args()
    server = get_server(client_type="vue3")
    App(server, options.scan, options.engine_python, options.model)
    server.start(
        port=options.port, host="127.0.0.1", open_browser=False, show_connection_info=False
    )


if __name__ == "__main__":
    main()
