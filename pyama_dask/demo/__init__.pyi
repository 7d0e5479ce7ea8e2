from .compare import Comparison as Comparison
from .movie import MOVIE as MOVIE
from .movie import DemoMovie as DemoMovie
from .movie import make_movie as make_movie
from .plate import PLATE as PLATE
from .plate import make_plate as make_plate
from .session import demo_config as demo_config
from .session import judge as judge
