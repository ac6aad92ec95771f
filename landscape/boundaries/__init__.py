"""Where coordinates may go: walls and periods, springs, and the way back to a path."""
