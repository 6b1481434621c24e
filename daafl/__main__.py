"""Makes ``python -m daafl`` the same as ``daafl``."""

from daafl.cli import main

main()
