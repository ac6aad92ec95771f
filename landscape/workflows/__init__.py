"""Many runs: sweeps, studies, presets, reproductions of published figures, and what they will cost."""
