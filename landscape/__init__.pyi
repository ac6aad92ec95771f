from . import errors as errors
from . import paths as paths
from . import potentials as potentials
from . import probes as probes
from .boundaries.constraints import Absorb as Absorb
from .boundaries.constraints import Periodic as Periodic
from .boundaries.constraints import Reflect as Reflect
from .boundaries.restraints import Restrain as Restrain
from .common.schedules import cosine as cosine
from .common.schedules import cycle as cycle
from .common.schedules import piecewise as piecewise
from .common.schedules import ramp as ramp
from .dynamics.metadynamics import Metadynamics as Metadynamics
from .dynamics.minimize import minimize as minimize
from .dynamics.replica_exchange import replica_exchange as replica_exchange
from .dynamics.simulate import simulate as simulate
from .dynamics.train import train as train
from .dynamics.warm_up import warm_up as warm_up
from .integrators import BAOAB as BAOAB
from .integrators import HMC as HMC
from .integrators import MALA as MALA
from .integrators import NUTS as NUTS
from .integrators import SGD as SGD
from .integrators import SGHMC as SGHMC
from .integrators import SGLD as SGLD
from .integrators import Adam as Adam
from .integrators import AdamW as AdamW
from .integrators import Diffusion as Diffusion
from .integrators import EulerMaruyama as EulerMaruyama
from .integrators import Heun as Heun
from .integrators import LeimkuhlerMatthews as LeimkuhlerMatthews
from .integrators import Mobility as Mobility
from .integrators import Optimizer as Optimizer
from .integrators import Preconditioned as Preconditioned
from .noise import ColoredNoise as ColoredNoise
from .noise import CovarianceNoise as CovarianceNoise
from .noise import HessianNoise as HessianNoise
from .noise import ThermalNoise as ThermalNoise
from .noise import TwoPointNoise as TwoPointNoise
from .observers import Autocorrelation as Autocorrelation
from .observers import CoreSets as CoreSets
from .observers import Histogram as Histogram
from .observers import Moments as Moments
from .observers import Residence as Residence
from .paths.projection import ProjectOntoPath as ProjectOntoPath
from .potentials import Drift as Drift
from .recording.by_chain import grid as grid
from .recording.record import Record as Record
from .storage.files import save as save
from .workflows.opening import open as open
from .workflows.resuming import consolidate as consolidate
from .workflows.resuming import resume as resume
from .workflows.specification import run as run
from .workflows.study import study as study
from .workflows.sweep import sweep as sweep

__version__: str

__all__ = [
    "BAOAB",
    "HMC",
    "MALA",
    "NUTS",
    "SGD",
    "SGHMC",
    "SGLD",
    "Absorb",
    "Adam",
    "AdamW",
    "Autocorrelation",
    "ColoredNoise",
    "CoreSets",
    "CovarianceNoise",
    "Diffusion",
    "Drift",
    "EulerMaruyama",
    "HessianNoise",
    "Heun",
    "Histogram",
    "LeimkuhlerMatthews",
    "Metadynamics",
    "Mobility",
    "Moments",
    "Optimizer",
    "Periodic",
    "Preconditioned",
    "ProjectOntoPath",
    "Record",
    "Reflect",
    "Residence",
    "Restrain",
    "ThermalNoise",
    "TwoPointNoise",
    "consolidate",
    "cosine",
    "cycle",
    "errors",
    "grid",
    "minimize",
    "open",
    "paths",
    "piecewise",
    "potentials",
    "probes",
    "ramp",
    "replica_exchange",
    "resume",
    "run",
    "save",
    "simulate",
    "study",
    "sweep",
    "train",
    "warm_up",
]
