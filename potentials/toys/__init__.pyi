from .double_well import DoubleWell as DoubleWell
from .entropic_barrier import EntropicBarrier as EntropicBarrier
from .exponential_wall import ExponentialWall as ExponentialWall
from .himmelblau import Himmelblau as Himmelblau
from .muller_brown import MullerBrown as MullerBrown
from .quadratic import Quadratic as Quadratic
from .ring import Ring as Ring
from .rosenbrock import Rosenbrock as Rosenbrock
from .three_hole import ThreeHole as ThreeHole
from .valley import Valley as Valley
from .wolfe_quapp import WolfeQuapp as WolfeQuapp

__all__ = [
    "DoubleWell",
    "EntropicBarrier",
    "ExponentialWall",
    "Himmelblau",
    "MullerBrown",
    "Quadratic",
    "Ring",
    "Rosenbrock",
    "ThreeHole",
    "Valley",
    "WolfeQuapp",
]
