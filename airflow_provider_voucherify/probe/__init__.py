"""
The probe: asks a sandbox project what the vendor's documents leave open, once, and says which line it answers.

``rounds`` has what is sent, ``run`` sends it and removes what it made, ``questions`` makes answers of what was
observed, ``command`` is the command line. ``docs/probe.md`` describes it from outside.
"""
