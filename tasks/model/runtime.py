"""One way to compute: TensorFlow quiet, with the arithmetic that measured fastest here, and nothing left open that changes the bits."""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_THREADS = "TF_NUM_INTRAOP_THREADS"


def import_tensorflow() -> ModuleType:
    """Import TensorFlow with oneDNN off: it changes the bits, and small LSTM products are faster without."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # whatever the environment says: a model's name does not tell it
        os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # arrays of a step lie where the last one's did
        os.environ[_THREADS] = str(num_threads())  # nonsense, or 0, would be as many as there are processors
        with _quiet_start():
            import tensorflow as tf

            tf.config.list_logical_devices()
        tf.get_logger().addFilter(_is_not_about_retracing)
    import tensorflow as tf

    return tf


def num_threads() -> int:
    """Return among how many threads TensorFlow divides an operation: one, unless the environment says otherwise.

    Operations that do not wait for each other still run side by side. To divide these small ones costs a third more processor time and
    saves no second; and as each thread sums its own share, their number would decide the last bits of what is trained.
    """
    named = os.environ.get(_THREADS, "")
    return int(named) if named.isdigit() and int(named) else 1


def use_threads(number: int) -> None:
    """Let TensorFlow divide operations among this many threads, if it has not started yet: then it cannot be told any more."""
    if "tensorflow" not in sys.modules:
        os.environ[_THREADS] = str(number)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Multiply NumPy's and SciPy's matrices on one thread: with more, the number of processors decides the last bits.

    At the sizes of this project that is also faster.
    """
    import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own; one that is loaded later would not be limited
    from threadpoolctl import threadpool_limits

    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        if _for_good.is_set():  # asked for within the block
            use_one_blas_thread()


_for_good = threading.Event()


def use_one_blas_thread() -> None:
    """From here on, multiply NumPy's matrices on one thread: rows that are scored side by side keep the processors busy already."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1, user_api="blas")
    _for_good.set()


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    """Drop the warning that a function is traced again and again: every model that a search tries has functions of its own."""
    return "triggered tf.function retracing" not in record.getMessage()


def forget_networks() -> None:
    """Free what Keras remembers of networks that nobody needs any more, so that a search does not grow."""
    import keras

    keras.utils.clear_session()


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
