"""What runs whole syncs in order to measure or to break them; ``make help`` says how each is started."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
