"""How nano's codec learns to understand natural voices."""
