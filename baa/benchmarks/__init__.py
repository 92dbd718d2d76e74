"""What baa's parts cost, against the arithmetic they cannot do without and against what people use today."""
