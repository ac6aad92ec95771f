"""What a user asks for: simulations, trainings, minimisations, exchanges, and the settings that they take."""
