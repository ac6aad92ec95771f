from . import fluctuations as fluctuations
from . import free_energy as free_energy

__all__ = ["fluctuations", "free_energy"]
