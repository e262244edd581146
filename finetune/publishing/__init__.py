"""Publish trained models and adapters on the Hub, with model cards."""
