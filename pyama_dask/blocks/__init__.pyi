from .work import run_task as run_task
