"""What the provider costs, beside the floor and the alternatives: ``python -m benchmarks.run`` (see there)."""
