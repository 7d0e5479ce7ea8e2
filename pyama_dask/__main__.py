"""``python -m pyama_dask``."""

from pyama_dask.cli import main

if __name__ == "__main__":
    main()
