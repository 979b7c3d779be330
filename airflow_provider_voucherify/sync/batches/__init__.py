"""Records packed into the bodies of as few requests as possible."""
