"""``python -m pyama_dask.cli``."""

from pyama_dask.cli import main

if __name__ == "__main__":
    main()
