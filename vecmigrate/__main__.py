"""``python -m vecmigrate``."""

from vecmigrate.cli import main

main()
