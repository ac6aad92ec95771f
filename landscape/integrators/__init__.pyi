from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .base import Integrator as Integrator
from .base import StepContext as StepContext
from .diffusion import Diffusion as Diffusion
from .euler_maruyama import EulerMaruyama as EulerMaruyama
from .leimkuhler_matthews import LeimkuhlerMatthews as LeimkuhlerMatthews
from .sgd import SGD as SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Diffusion",
    "EulerMaruyama",
    "Integrator",
    "LeimkuhlerMatthews",
    "StepContext",
]
