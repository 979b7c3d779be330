"""What makes a site of ``docs``: the hooks of MkDocs, and the check of what it has built."""
