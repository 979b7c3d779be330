"""The connection: its form, and the check behind the Test button."""
