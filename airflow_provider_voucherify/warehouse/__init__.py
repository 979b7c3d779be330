"""The warehouse: rows in, tables out."""
