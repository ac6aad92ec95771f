"""Energies given as formulas: their derivatives, their compiled form, integrals over them."""
