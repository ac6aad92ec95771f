"""Data sets: made on the spot, or read from where they lie; nothing that is read can run code."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
