"""The parts of `landscape.sweep`: table, tasks, engines and results."""
