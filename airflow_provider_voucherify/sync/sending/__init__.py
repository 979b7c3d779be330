"""Batches sent once each, with a journal for the next try."""
