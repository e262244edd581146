"""Datasets in, adapters and checkpoints out: everything that trains, measures and publishes a TtT model."""
