"""The DAG whose task instances are set to wait."""
