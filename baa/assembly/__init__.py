"""From settings to objects: data, modules, trainer."""
