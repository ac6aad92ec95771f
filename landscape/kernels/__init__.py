"""Compiled inner loops for the CPU: random numbers, formulas, small networks. Imported only when a run needs them."""
