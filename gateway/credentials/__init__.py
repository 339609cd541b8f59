"""Where secrets come from, and the tokens that they are exchanged for."""
