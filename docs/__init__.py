"""The documentation, and the program that generates what would otherwise rot."""
