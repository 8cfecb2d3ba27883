"""What the user chose, as it is kept in the scene; the only file that knows parameter nodes.

Annotations are read when the class is made, so they are no strings here.
"""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class SparseSegParameterNode:
    """The choices of the panel.

    Attributes
    ----------
    inputVolume : vtkMRMLScalarVolumeNode
        What to segment.
    region : vtkMRMLMarkupsROINode
        Where in it, None for all of it.
    model, sparsifier : str
        Name of the model, "" for the engine's default; name of a control in place of its rule.
    setting : float
        Value of the model's setting, 0 for its default.
    followSlider : bool
        Whether a slider that rests runs the engine.
    device, precision : str
        Where and how to compute.
    compareDense : bool
        Whether the dense twin runs too.
    map : str
        Kind and stage of the map that is shown, "none" for no map.
    opacity : float
        Of the map.
    show3D : bool
        Whether the structures are shown in 3D.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    region: vtkMRMLMarkupsROINode
    model: str = ""
    sparsifier: str = ""
    setting: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    followSlider: bool = True
    device: str = "auto"
    precision: str = "auto"
    compareDense: bool = False
    map: str = "kept"
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.8
    show3D: bool = False
