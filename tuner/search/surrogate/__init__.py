"""A network that has seen many made-up services, and predicts a new one from its first few trials."""
