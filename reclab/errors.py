"""The few kinds of error that a student meets: each message says what was wrong, where, and what to do next."""


class ReclabError(Exception):
    """Base of every error that reclab raises on purpose; the command line prints it as one line."""


class AssetError(ReclabError):
    """A data set or a model file is missing, damaged, or cannot be fetched."""


class SchemaError(ReclabError, ValueError):
    """A table does not have the columns, types or keys that its schema asks for."""


class LeakageError(ReclabError, AssertionError):
    """A split lets the model see what it is tested on."""


class UnknownNameError(ReclabError, KeyError):
    """A profile, asset, notebook or exercise of that name does not exist."""

    def __init__(self, kind: str, name: str, known):
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"there is no {kind} named {name!r}; choose one of: {', '.join(self.known)}")

    def __str__(self) -> str:
        return self.args[0]
