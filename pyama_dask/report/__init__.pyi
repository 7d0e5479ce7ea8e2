from .fov_page import write_fov_page as write_fov_page
from .page import write_report_page as write_report_page
