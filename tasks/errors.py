"""What can go wrong, sorted by who can mend it; the command line turns each kind into its exit code."""


class PipelineError(Exception):
    """A failure with a remedy: the message says what, where, what was expected and what to do."""

    exit_code = 1


class CallerError(PipelineError, ValueError):
    """The command, a setting or an option is wrong."""

    exit_code = 2


class DataError(PipelineError, ValueError):
    """The input's content is wrong."""

    exit_code = 3


class UnsettledError(DataError):
    """The data changed while it was read: the same again may be well."""


class MachineError(PipelineError, RuntimeError):
    """Disk, lock, network or Prefect is in the way."""

    exit_code = 4


class UnexpectedError(PipelineError):
    """An error that nobody foresaw, without what it said."""
