"""From prepared datasets to trained weights, as a recipe says."""
