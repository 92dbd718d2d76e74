"""What a person reads after a run: metrics and figures."""
