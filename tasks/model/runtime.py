"""One way to import TensorFlow: quiet, reproducible, with the arithmetic that measured fastest here."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Import TensorFlow with oneDNN off: it changes the bits, and small LSTM products are faster without."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        with _quiet_start():
            import tensorflow as tf

            tf.config.list_logical_devices()
    import tensorflow as tf

    return tf


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what TensorFlow's libraries write about GPUs that are not there, before their log level counts; show it if they fail."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
