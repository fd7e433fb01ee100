"""What a user gets wrong: mypy finds every line that says so, and no other. Run by no test."""

import echosdk

registry = echosdk.Registry.discover()
registry.names(3)  # wrong
echosdk.generate("out", option=None)  # wrong
echosdk.open_dataset("out", split=1)  # wrong
names: int = registry.names("encoder")  # wrong
echosdk.Verdict(keep=None)  # wrong
