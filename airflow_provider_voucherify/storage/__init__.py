"""Files and folders, local or in object storage."""
