from . import errors as errors
from . import potentials as potentials
from . import probes as probes
from .constraints import Periodic as Periodic
from .constraints import Reflect as Reflect
from .integrators import SGD as SGD
from .integrators import Adam as Adam
from .integrators import AdamW as AdamW
from .integrators import Diffusion as Diffusion
from .integrators import EulerMaruyama as EulerMaruyama
from .integrators import LeimkuhlerMatthews as LeimkuhlerMatthews
from .minimize import minimize as minimize
from .noise import ThermalNoise as ThermalNoise
from .per_chain import grid as grid
from .record import Record as Record
from .simulate import simulate as simulate
from .specification import run as run
from .storage import open as open
from .storage import save as save
from .train import train as train

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Diffusion",
    "EulerMaruyama",
    "LeimkuhlerMatthews",
    "Periodic",
    "Record",
    "Reflect",
    "ThermalNoise",
    "errors",
    "grid",
    "minimize",
    "open",
    "potentials",
    "probes",
    "run",
    "save",
    "simulate",
    "train",
]
