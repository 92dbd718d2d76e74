"""The networks, in plain torch: no Lightning, no config."""
