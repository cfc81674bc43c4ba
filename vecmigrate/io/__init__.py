"""Files: written whole or not at all, and tables of vectors."""
