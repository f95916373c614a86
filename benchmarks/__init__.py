"""Programs that print the figures that the documentation states."""
