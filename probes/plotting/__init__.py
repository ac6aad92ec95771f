"""Pictures of results, one plot function for each probe; the rooms of the probes hand them on.

`picture` holds what all of them share (axes, flags, labels, legend, docstring), `marks` what is drawn (curves with
bands, points with bars, theory), `rows` what it is drawn against and how a row of a result is called.
"""

__all__: list[str] = []
