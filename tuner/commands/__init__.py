"""One module per command of the command line. `tuner.cli` parses; these do the work and return an exit code."""
