from .base import Channel as Channel
from .base import FovInfo as FovInfo
from .base import Metadata as Metadata
from .base import Reader as Reader
from .czi import CziReader as CziReader
from .nd2 import Nd2Reader as Nd2Reader
from .registry import open_reader as open_reader
