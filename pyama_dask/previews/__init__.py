"""Frames as a run would segment them, over a grid of settings, as a picture or a page."""
