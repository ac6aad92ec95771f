from . import confinement as confinement
from . import curvature as curvature
from . import fluctuations as fluctuations
from . import free_energy as free_energy
from . import rates as rates

__all__ = ["confinement", "curvature", "fluctuations", "free_energy", "rates"]
