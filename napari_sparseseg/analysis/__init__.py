"""From results to numbers, tables and curves: numpy in, plain data out; no Qt, no napari.

Nothing here loads torch or matplotlib before it is used.
"""
