"""Lightning modules, and the stages that train them one after the other."""
