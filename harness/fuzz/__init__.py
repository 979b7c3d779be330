"""Random bytes for everything that reads what others wrote; ``python -m harness.fuzz.run`` drives it with atheris."""
