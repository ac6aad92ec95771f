from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .baoab import BAOAB as BAOAB
from .base import Integrator as Integrator
from .base import StepContext as StepContext
from .diffusion import Diffusion as Diffusion
from .euler_maruyama import EulerMaruyama as EulerMaruyama
from .heun import Heun as Heun
from .hmc import HMC as HMC
from .leimkuhler_matthews import LeimkuhlerMatthews as LeimkuhlerMatthews
from .mala import MALA as MALA
from .mobility import Mobility as Mobility
from .nuts import NUTS as NUTS
from .optimizer import Optimizer as Optimizer
from .preconditioned import Preconditioned as Preconditioned
from .sgd import SGD as SGD
from .sgld import SGHMC as SGHMC
from .sgld import SGLD as SGLD

__all__ = [
    "BAOAB",
    "HMC",
    "MALA",
    "NUTS",
    "SGD",
    "SGHMC",
    "SGLD",
    "Adam",
    "AdamW",
    "Diffusion",
    "EulerMaruyama",
    "Heun",
    "Integrator",
    "LeimkuhlerMatthews",
    "Mobility",
    "Optimizer",
    "Preconditioned",
    "StepContext",
]
