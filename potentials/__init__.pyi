from . import architectures as architectures
from . import datasets as datasets
from . import toys as toys
from .base import Potential as Potential
from .expression import Expression as Expression
from .function import Function as Function
from .network import NetworkLoss as NetworkLoss

__all__ = ["Expression", "Function", "NetworkLoss", "Potential", "architectures", "datasets", "toys"]
