"""A page that talks without a server: the model's graphs and a decoder in JavaScript, as a static site."""
