"""The report of a run: one HTML page that opens anywhere, and one for each FOV on demand."""

from pyama_dask.report.fov_page import write_fov_page
from pyama_dask.report.page import write_report_page

__all__ = ["write_fov_page", "write_report_page"]
