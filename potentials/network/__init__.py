"""The loss of a neural network as a function of its weights."""
