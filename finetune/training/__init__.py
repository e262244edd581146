"""From prepared datasets to trained weights, by a recipe."""
