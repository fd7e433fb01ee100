"""The fixtures of the contract tests."""

pytest_plugins = ["echosdk.testing.fixtures"]
