"""One module per command of the command line. `tuner.cli` parses; these do the work and return an exit code.

A command is a function of that name in a module of that name; `opening` and `stored` are what several need. No command
measures, searches or words a result itself.
"""
