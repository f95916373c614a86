"""Keeps a study in Optuna's storage, with every finished trial's record beside its parameters.

It stores and reads, and chooses nothing. Public are `begin` (create, resume or join a study), `store.StudyStore` (one
that is written), `archive.Archive` (one that is read, without Optuna) and `connection` (its URL).
"""
