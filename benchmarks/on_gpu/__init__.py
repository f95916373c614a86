"""The parts of `benchmarks.gpu`: a quick load of its own, checks of a GPU's figures, a measured table, a real run."""
