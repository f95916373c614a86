"""What the command line is made of: types of options, the main job's options, and its front door."""
