"""Random bytes for everything that reads what others wrote; ``python -m fuzz.run`` drives it with atheris."""
