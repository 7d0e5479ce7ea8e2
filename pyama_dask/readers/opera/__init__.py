"""Plates of Opera Phenix and Operetta microscopes."""
