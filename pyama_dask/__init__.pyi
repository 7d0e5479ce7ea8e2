__version__: str

from .config import Config as Config
from .config import load_config as load_config
from .errors import PyamaError as PyamaError
from .export import ExportReport as ExportReport
from .export import export_traces as export_traces
from .fits import FitReport as FitReport
from .fits import fit_traces as fit_traces
from .output import Output as Output
from .output import background_plane as background_plane
from .output import open_output as open_output
from .pipeline import run as run
from .quality import QualityReport as QualityReport
from .quality import inspect_traces as inspect_traces
from .readers import Metadata as Metadata
from .readers import open_reader as open_reader
from .report import RunReport as RunReport
from .samples import MergeReport as MergeReport
from .samples import merge_samples as merge_samples
