"""Metrics: age error, prediction intervals, localization."""
