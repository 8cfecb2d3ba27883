"""The engine as a process of its own, for a host application such as 3D Slicer.

``python -m napari_sparseseg.worker --folder DIR`` answers JSON-RPC 2.0 requests, one a line, on
its standard streams, and exchanges arrays through files in DIR. ``docs/worker.md`` tells a host
what it may send and what comes back.
"""
