"""The nano checkpoint, made from nothing: its domain, its synthetic speech, its training and its judge."""
