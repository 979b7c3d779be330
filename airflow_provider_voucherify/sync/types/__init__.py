"""The nouns that all rooms share."""
