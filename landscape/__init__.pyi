from . import errors as errors
from . import potentials as potentials
from . import probes as probes

__all__ = ["errors", "potentials", "probes"]
