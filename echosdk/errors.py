"""What can go wrong, as a tree. A command turns every `EchoError` into one line on stderr and exit status 2.

```
EchoError
├── InputError               what the user gave is wrong: a file, an option, a value
│   ├── DataError            a real clip, list or label that cannot be used
│   ├── PluginSetError       an unknown component, key or value in a plugin set, `--use` or `--set`
│   └── BundleError          trained state is missing, damaged or does not fit
├── PluginError              a plugin clashes with another, failed to load, or broke its contract
├── PlanError                another plan already lives in this place
├── DatasetError             a generated dataset is damaged or incomplete
├── TrainingError            training cannot start, or its loss is no longer a number
├── OutOfMemory              a batch did not fit
└── PrivacyError             the gate is closed: nothing is written
```

Every message says what is wrong, where, and what to do about it.
"""


class EchoError(Exception):
    """Say what is wrong, where, and what to do."""


class InputError(EchoError):
    """Something the user gave cannot be used."""


class DataError(InputError):
    """A real clip, list or label cannot be used."""


class PluginSetError(InputError):
    """A plugin set, `--use` or `--set` names an unknown component, key or value."""


class BundleError(InputError):
    """Trained state is missing, damaged or does not fit."""


class PluginError(EchoError):
    """A plugin clashes with another, failed to load, or broke its contract."""


class PlanError(EchoError):
    """Another plan already lives in this place."""


class DatasetError(EchoError):
    """A generated dataset is damaged or incomplete."""


class TrainingError(EchoError):
    """Training cannot start or go on."""


class OutOfMemory(EchoError):
    """A batch did not fit into memory."""


class PrivacyError(EchoError):
    """The gate is closed: nothing is written."""
