from . import fluctuations as fluctuations

__all__ = ["fluctuations"]
