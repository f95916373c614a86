"""What the command line is made of: types of options, the options of the longer commands, its front
door, and the stored study that `DIR`, `--storage` and `--study` name.
"""
