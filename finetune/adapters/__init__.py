"""Load models and LoRA adapters by name, and combine them."""
