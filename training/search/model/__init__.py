"""The network that the search asks, and what it sees, in PyTorch and for batches of spaces: what is trained.

`tuner.search.surrogate` evaluates the same with numpy, for one space; a test holds the two together
(`tests/training/test_search_in_numpy.py`). It never draws services or trains: that is done by the modules around it.
"""
