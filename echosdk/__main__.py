"""`python -m echosdk` is `echosdk`."""

from echosdk.cli import main

main()
