"""The DAG whose traces are searched."""
