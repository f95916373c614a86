"""The search's network: services made up by the thousand, as tensors, and the training on them.

`python -m training.search.train` writes weights; torch and numpy are all it needs, on a CPU or a GPU.
"""
