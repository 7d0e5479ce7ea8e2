from .compare import Comparison as Comparison
from .movie import DemoMovie as DemoMovie
from .movie import make_movie as make_movie
from .session import demo_config as demo_config
from .session import judge as judge
