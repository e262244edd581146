"""Measure nano's codec and model, and write the tables of its model card."""
