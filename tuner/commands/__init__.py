"""One module per command of the command line. `tuner.cli` parses; these do the work and return an exit code.

A command is a function of that name in a module of that name; `options` holds their options and what several need. No
command measures, searches or words a result itself.
"""
