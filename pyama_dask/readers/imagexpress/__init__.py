"""Plates of ImageXpress microscopes."""
