"""3D Slicer module: segment with a sparse-token transformer and see what the sparsity did."""

import logging
import sys
from pathlib import Path

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from SparseSegLib.engine import Engine
from SparseSegLib.install import Installer, slicer_tools
from SparseSegLib.jobs import Setup
from SparseSegLib.logic import Logic, launcher
from SparseSegLib.orders import Listener
from SparseSegLib.parameters import SparseSegParameterNode
from SparseSegLib.runner import Worker
from SparseSegLib.scene import ResultWriter
from SparseSegLib.widget import Panel

POLL_MS = 30
LIBRARY = "SparseSegLib"


class SparseSeg(ScriptedLoadableModule):
    """What Slicer shows of the module in its menus."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SparseSeg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Volumes", "Segmentations", "Colors", "Markups"]
        parent.contributors = ["napari-sparseseg contributors"]
        parent.helpText = _(
            "Segment a scan with a sparse-token transformer and see what the sparsity did: which "
            "patches the network found important, which it pruned and where, and what that saved. "
            "Research use only, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "The methods are those of the papers that the documentation of napari-sparseseg cites."
        )


class SparseSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Brings panel, logic and scene together."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None

    def setup(self):
        """Make the panel; Slicer calls this when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/SparseSeg.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = SparseSegLogic()
        self.ui = slicer.util.childWidgetVariables(widget)
        self.panel = Panel(self.ui, self.logic.runs)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Let go of everything; Slicer calls this when it closes or the module is reloaded."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self.panel = None
        if self.logic is not None:
            self.logic.stop()
            self.logic = None

    def enter(self):
        """Follow the scene's parameters; Slicer calls this when the module is shown."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        """Leave everything as it is: a run goes on while another module is shown."""

    def onReload(self):
        """Load the module and its library anew; a button of Slicer's developer mode."""
        for name in [n for n in sys.modules if n.split(".")[0] == LIBRARY]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        """Follow no parameters any more: their node goes with the scene."""
        self.panel.set_parameters(None)

    def onSceneEndClose(self, caller, event):
        """Follow those of the new scene."""
        self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """Follow those of the scene that was loaded."""
        self.initializeParameterNode()

    def initializeParameterNode(self):
        """Follow the parameters of the scene, and choose a volume if none is chosen."""
        parameters = self.logic.getParameterNode()
        if parameters.inputVolume is None:
            parameters.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self.panel.set_parameters(parameters)


class SparseSegLogic(ScriptedLoadableModuleLogic):
    """Segments volumes, with a panel or without one.

    Attributes
    ----------
    runs : Logic
        What does it.
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.runs = make_logic(self._wake)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self._poll)

    def getParameterNode(self):
        """Return the parameters of the scene."""
        return SparseSegParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))

    def process(
        self,
        inputVolume,
        region=None,
        model="",
        sparsifier="",
        setting=None,
        device="auto",
        precision="auto",
        compareDense=False,
        waitForCompletion=True,
        onFinished=None,
        onError=None,
        onProgress=None,
    ):
        """Segment a volume; nothing pops up, and nothing is installed.

        Parameters
        ----------
        inputVolume : vtkMRMLScalarVolumeNode
            What to segment.
        region : vtkMRMLMarkupsROINode, optional
            Where in it.
        model : str
            Name of a model, "" for the default one.
        sparsifier : str
            Name of a control in place of the model's own rule: "random", "truncated" or "none".
        setting : float, optional
            Keep ratio or threshold, the model's default if left out.
        device, precision : str
            "auto", "cpu", "cuda:0" ...; "auto", "float32" or "bfloat16".
        compareDense : bool
            Run the dense twin too, and give the Dice to it.
        waitForCompletion : bool
            Return when the result is in the scene; else at once, and the callbacks are called.
        onFinished, onError, onProgress : callable, optional
            Get the result; an exception with one sentence; steps done, steps in all and a text.

        Returns
        -------
        Shown or None
            With ``nodes`` (IDs of segmentation, maps and table) and ``answer``.
        """
        callbacks = {
            "on_finished": onFinished, "on_error": onError, "on_progress": onProgress,
        }  # fmt: skip
        return self.runs.process(
            inputVolume,
            region,
            Setup(model, device, precision, sparsifier),
            setting,
            compareDense,
            Listener(**{name: call for name, call in callbacks.items() if call is not None}),
            waitForCompletion,
        )

    def stop(self):
        """End the engine and give its memory back."""
        self._timer.stop()
        self.runs.stop()

    def _wake(self):
        self._timer.start()

    def _poll(self):
        if not self.runs.poll():
            self._timer.stop()


def make_logic(wake):
    """Make what segments in the scene of this Slicer.

    Parameters
    ----------
    wake : callable
        Is called when there is something to poll for.
    """
    requirements = Path(__file__).parent / "Resources" / "requirements.txt"
    installer = Installer(requirements, slicer_tools())
    host = f"{slicer.app.applicationName} {slicer.app.applicationVersion}"
    engine = Engine(
        launcher(installer, slicer.util.startupEnvironment, host), Worker(on_log=logging.info)
    )
    writer = ResultWriter(
        slicer.mrmlScene, slicer.modules.colors.logic(), slicer.util.RenderBlocker
    )
    return Logic(slicer.mrmlScene, writer, engine, installer, slicer.app.processEvents, wake)


class SparseSegTest(ScriptedLoadableModuleTest):
    """The self test, for Slicer itself: segments a phantom, or says why it cannot."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()
        self.logic = SparseSegLogic()

    def tearDown(self):
        """End the engine."""
        self.logic.stop()

    def test_segment_and_move_the_slider(self):
        """Segment a phantom at two settings; the second fills the nodes of the first."""
        missing = self.logic.runs.installer.missing()
        if missing:
            self.skipTest(f"{', '.join(missing)} is not installed; press Install engine first.")
        volume = phantom()
        first = self.logic.process(volume, setting=0.5)
        second = self.logic.process(volume, setting=0.3)
        self.assertEqual(first.nodes.segmentation, second.nodes.segmentation)
        segmentation = slicer.mrmlScene.GetNodeByID(second.nodes.segmentation)
        self.assertEqual(
            segmentation.GetSegmentation().GetNumberOfSegments(), len(second.answer.structures)
        )
        self.assertIn(("kept", None), second.nodes.maps)
        self.assertLess(
            second.answer.report["tokens"]["kept"], first.answer.report["tokens"]["kept"]
        )

    def test_parameters_return_after_the_scene_was_closed(self):
        """Closing the scene forgets the parameters and leaves the module usable."""
        self.logic.getParameterNode().setting = 0.4
        slicer.mrmlScene.Clear()
        self.assertEqual(self.logic.getParameterNode().setting, 0.0)


def phantom():
    """Add a head-like ball of 2 mm voxels to the scene."""
    axes = np.indices((80, 96, 80)) - np.array([40, 48, 40]).reshape(3, 1, 1, 1)
    radius = np.sqrt((axes**2).sum(axis=0))
    voxels = np.clip(40.0 - radius, 0, 12) * 20 + 10 * np.sin(axes).sum(axis=0) * (radius < 36)
    volume = slicer.util.addVolumeFromArray(voxels.astype(np.int16), name="phantom")
    volume.SetSpacing(2, 2, 2)
    return volume
