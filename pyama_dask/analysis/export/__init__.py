"""Export: the traces and tracks of an output in the formats of other programs.

Each module but `export` has a function ``write_fov`` that writes one FOV to a folder, or returns the reason why not.
"""

from pyama_dask.analysis.export.export import FORMATS, ExportReport, export_traces

__all__ = ["FORMATS", "ExportReport", "export_traces"]
