"""Stochastic dynamics on energy landscapes, from analytic toys to the loss of a neural network."""

import lazy_loader

from landscape.common.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
