"""``python -m napari_sparseseg.cli`` is the ``sparseseg`` command."""

from napari_sparseseg.cli import main

main()
