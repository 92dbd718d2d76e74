"""Evaluation of a split and of a trained model, and the report page."""
