"""``python -m pyama_dask.cli``."""

from pyama_dask.cli import program

if __name__ == "__main__":
    program()
