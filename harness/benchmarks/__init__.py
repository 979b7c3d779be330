"""What the provider costs, beside the floor and the alternatives: ``python -m harness.benchmarks.run`` (see there)."""
