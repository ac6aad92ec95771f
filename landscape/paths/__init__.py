"""Paths between minima: straight lines, bands, strings and curves, and the permutations that align two networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
