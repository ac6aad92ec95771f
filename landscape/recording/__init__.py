"""What is kept of a run: observables, streaming observers, the Dataset."""
