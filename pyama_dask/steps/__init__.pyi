from .runner import run_task as run_task
