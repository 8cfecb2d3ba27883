"""The napari plugin: everything that imports napari or Qt, and nothing else."""
