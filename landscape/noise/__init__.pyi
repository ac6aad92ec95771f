from .base import Noise as Noise
from .colored import ColoredNoise as ColoredNoise
from .covariance import CovarianceNoise as CovarianceNoise
from .hessian import HessianNoise as HessianNoise
from .thermal import ThermalNoise as ThermalNoise
from .two_point import TwoPointNoise as TwoPointNoise

__all__ = ["ColoredNoise", "CovarianceNoise", "HessianNoise", "Noise", "ThermalNoise", "TwoPointNoise"]
