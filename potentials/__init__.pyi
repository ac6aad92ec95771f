from . import architectures as architectures
from . import datasets as datasets
from . import losses as losses
from . import toys as toys
from .base import Potential as Potential
from .drift import Drift as Drift
from .expression.potential import Expression as Expression
from .function import Function as Function
from .network.potential import NetworkLoss as NetworkLoss
from .network.weights import load_weights as load_weights
from .toys import DoubleWell as DoubleWell
from .toys import EntropicBarrier as EntropicBarrier
from .toys import ExponentialWall as ExponentialWall
from .toys import Himmelblau as Himmelblau
from .toys import MullerBrown as MullerBrown
from .toys import Quadratic as Quadratic
from .toys import Ring as Ring
from .toys import Rosenbrock as Rosenbrock
from .toys import ThreeHole as ThreeHole
from .toys import Valley as Valley
from .toys import WolfeQuapp as WolfeQuapp

__all__ = [
    "DoubleWell",
    "Drift",
    "EntropicBarrier",
    "ExponentialWall",
    "Expression",
    "Function",
    "Himmelblau",
    "MullerBrown",
    "NetworkLoss",
    "Potential",
    "Quadratic",
    "Ring",
    "Rosenbrock",
    "ThreeHole",
    "Valley",
    "WolfeQuapp",
    "architectures",
    "datasets",
    "load_weights",
    "losses",
    "toys",
]
