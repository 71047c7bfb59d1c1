import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from threadpoolctl import threadpool_info

from tasks.model.origin import describe_machine
from tasks.model.runtime import num_threads, one_blas_thread


def blas_threads() -> set[int]:
    """Return how many threads NumPy's and SciPy's matrix products may use."""
    import numpy.linalg  # noqa: F401

    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_operations_have_one_thread_or_as_many_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF_NUM_INTRAOP_THREADS decides; without it, or with nonsense in it, one: whatever the machine, the same bits."""
    for value in ("", "0", "many"):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", value)
        assert num_threads() == 1
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    assert num_threads() == 3 == describe_machine().threads


def test_tensorflow_is_told_so_too() -> None:
    """What the environment says in vain does not reach TensorFlow, which would take as many threads as there are processors."""
    program = (
        "import os; from tasks.model.runtime import import_tensorflow; import_tensorflow(); print(os.environ['TF_NUM_INTRAOP_THREADS'])"
    )
    for value, expected in (("0", "1"), ("2", "2")):
        environment = os.environ | {"TF_NUM_INTRAOP_THREADS": value}
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
        assert told.stdout.strip() == expected


def test_matrices_are_multiplied_on_one_thread() -> None:
    """Within the block BLAS has one thread, after it as many as before."""
    before = blas_threads()
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_scoring_stays_on_one_thread_after_a_model_was_fitted() -> None:
    """Who asks for one thread while a model is fitted keeps it when that is done: it is one process that trains, then scores."""
    program = (
        "from tasks.model.runtime import one_blas_thread, use_one_blas_thread\n"
        "from threadpoolctl import threadpool_info\n"
        "with one_blas_thread(): use_one_blas_thread()\n"
        "print({pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas'})"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "OPENBLAS_NUM_THREADS": "2"}, check=True, capture_output=True, text=True
    )

    assert told.stdout.strip() == "{1}"


def test_models_are_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever NumPy and SciPy multiply while a model is fitted, they multiply on one thread."""
    from tasks.model import fitting

    class ReachedError(Exception):
        """Fitting has begun."""

    def spy(*_: object) -> None:
        raise ReachedError(blas_threads())

    monkeypatch.setattr(fitting, "fit_vocabulary", spy)
    nothing = SimpleNamespace(tokens=list)
    with pytest.raises(ReachedError, match=r"\{1\}"):
        fitting.fit_model(nothing, nothing, fitting.TrainSettings(), print, print)


def test_machine_is_described() -> None:
    """The description names processor, vector units, Python and the matrix libraries; nothing in it is empty."""
    machine = describe_machine()

    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.processor and machine.vector_units and all(name.split()[1][0].isdigit() for name in machine.blas)
    assert machine == describe_machine()


def test_arithmetic_is_the_same_whatever_the_environment_says() -> None:
    """Another choice of kernels makes other bits, which no model's name tells: it is not left to the environment."""
    program = (
        "from tasks.model.runtime import import_tensorflow; import_tensorflow(); import os; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "0"
