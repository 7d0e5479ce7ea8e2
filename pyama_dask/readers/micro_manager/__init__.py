"""Datasets of Micro-Manager."""
