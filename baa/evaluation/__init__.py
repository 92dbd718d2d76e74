"""A split judged, a checkpoint judged, the report page."""
