"""Settings of all tests: one thread for every library, and how hypothesis searches."""

import os

for name in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "BLOSC_NTHREADS",
):
    os.environ[name] = "1"  # before numpy, numba and OpenCV read them

from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=40)  # the first example may compile kernels
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
