"""Backends: how a state is advanced, batched in torch or compiled for the CPU."""
