"""The exception for input that a person can mend, and what the other processes make of it."""


class InputError(ValueError):
    """Input from outside is unusable: the message says what was wrong, what was expected and what to do.

    The command line prints it as one line and exits with 2. Raise it where input enters (a flag, a file, an array from
    a caller), never for a fault of gatescope's own.
    """


class RefusedElsewhere(InputError):
    """Another process of `torchrun` has refused its input and says why: a command ends without a word then."""
