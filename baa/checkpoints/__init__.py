"""Trained models on disk: Lightning's checkpoints and bundles."""
