"""`python -m benchmarks.search`: the comparison of searches (see runs.py)."""

from benchmarks.search.runs import main

if __name__ == "__main__":
    main()
