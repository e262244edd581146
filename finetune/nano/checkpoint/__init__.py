"""From speech and texts to the nano checkpoint: tokenizer, prepared data, model, export."""
