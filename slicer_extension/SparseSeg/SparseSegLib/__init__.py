"""The parts of the SparseSeg module, split by what each may import.

``geometry``, ``answers``: numpy. ``process``, ``runner``: the standard library and numpy. ``scene``
and what it is made of (``volumes``, ``colors``, ``segments``, ``tables``, ``overlay``): VTK and
Slicer's MRML, no Qt.
"""
