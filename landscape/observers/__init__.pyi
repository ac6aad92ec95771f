from .autocorrelation import Autocorrelation as Autocorrelation
from .base import Accumulator as Accumulator
from .base import Observer as Observer
from .core_sets import CoreSets as CoreSets
from .histogram import Histogram as Histogram
from .moments import Moments as Moments
from .residence import Residence as Residence

__all__ = [
    "Accumulator",
    "Autocorrelation",
    "CoreSets",
    "Histogram",
    "Moments",
    "Observer",
    "Residence",
]
