"""Tests of what a person sees, in a real Chromium and a real napari; `make look` runs them on a virtual screen."""

import shutil
from pathlib import Path

import pytest

from look.pages import Browser


@pytest.fixture(scope="session")
def screenshots():
    """Folder of the screenshots, to look at after a run."""
    folder = Path(__file__).parents[2] / ".screenshots"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    """A Chromium, without a network."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no Chromium. Fix: apt-get install chromium"
    with Browser(program) as started:
        yield started
