"""What the landscape is: energies, gradients and curvature at a point, knowing nothing of dynamics."""

if __name__ == "potentials":
    raise ImportError("this folder is part of landscape: write `from landscape import potentials`")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
