from .context import Channels as Channels
from .context import MicroscopyMetadata as MicroscopyMetadata
from .context import ProcessingContext as ProcessingContext
from .context import ResultsPathsPerFOV as ResultsPathsPerFOV
from .context import load_microscopy_file as load_microscopy_file
from .services import BaseProcessingService as BaseProcessingService
from .workflow import SettingsWarning as SettingsWarning
from .workflow import run_complete_workflow as run_complete_workflow
