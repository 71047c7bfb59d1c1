"""The networks' forward pass in NumPy: what scoring needs of them, without the seconds that TensorFlow takes to start.

The same arithmetic in another order of sums: tests hold it to the Keras networks of `tasks.model.lstm`. Every temporary array is kept
for the next call, as fresh memory costs more than the arithmetic on it.

Four rewritings save time. A convolution whose steps overlap is read stretch by stretch of `stride` tokens, each multiplied with the parts
of the kernel that see it. State, input and a one stand side by side, so that one matrix product makes all gates of a step. A gate's
sigmoid is (1 + tanh(x / 2)) / 2: one tanh serves all gates, the halves go into the weights. A word of the *tutorial* network always
brings the same input to its gates: the product is made once for each word.

Source: Hochreiter & Schmidhuber (1997).
"""

import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from tasks.model.quantisation import PAIR_VECTORS, STEPS, WORD_VECTORS
from tasks.model.runtime import use_one_blas_thread

Weights = Mapping[str, np.ndarray]
_LEAST = np.finfo(np.float32).min


class ForwardSettings(Protocol):
    """What the arithmetic needs to know of `LstmSettings`."""

    @property
    def stride(self) -> int:
        """Tokens from one step to the next."""

    @property
    def chunk_length(self) -> int:
        """Tokens of a chunk."""

    @property
    def sequence_length(self) -> int:
        """Tokens that the tutorial network reads."""


class Chunks(Protocol):
    """Reviews cut into chunks, as `tasks.model.lstm.Chunks` describes them."""

    @property
    def words(self) -> np.ndarray:
        """int32, shape (num_chunks, chunk_length)."""

    @property
    def pairs(self) -> np.ndarray:
        """int32, the same shape."""

    @property
    def evidence(self) -> np.ndarray:
        """float16, shape (num_chunks, chunk_length, evidence_size)."""

    @property
    def review(self) -> np.ndarray:
        """int32, shape (num_chunks,), ascending."""

    @property
    def num_reviews(self) -> int:
        """Reviews in all."""


class _Padding(NamedTuple):
    """A chunk without words."""

    words: np.ndarray
    pairs: np.ndarray
    evidence: np.ndarray
    review: np.ndarray
    num_reviews: int


class Workspace(threading.local):
    """Arrays that are used again by the next call of the same thread."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        """Return an array of this shape, whatever it holds; a name is always asked for with the same type."""
        size = math.prod(shape)
        held = self._arrays.get(name)
        if held is None or held.size < size:
            held = self._arrays[name] = np.zeros(size, dtype)
        return held[:size].reshape(shape)


class Cell:
    """An LSTM's weights, arranged for steps of few array operations; its gates stand in the order input, forget, output, candidate.

    Its states are twice those of the textbook's, which the weights that read them make good.
    """

    def __init__(self, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> None:
        self.units = len(recurrent)
        self.kernel, self.bias = self._arranged(kernel), self._arranged(bias)
        self.recurrent = np.ascontiguousarray(self._arranged(recurrent) / 2)

    def _arranged(self, weights: np.ndarray) -> np.ndarray:
        """Take Keras' order (input, forget, candidate, output), and halve what goes into a sigmoid."""
        into, forget, candidate, output = np.split(weights, 4, axis=-1)
        return np.ascontiguousarray(np.concatenate([into / 2, forget / 2, output / 2, candidate], axis=-1), np.float32)

    def step(self, gates: np.ndarray, memory: np.ndarray, state: np.ndarray, product: np.ndarray) -> None:
        """Take one step.

        Args:
            gates: Shape (num_rows, 4 * units): what the input brings to them and the state before; overwritten.
            memory: Shape (num_rows, units): the cell's memory; overwritten by the new one.
            state: Shape (num_rows, units): the new state is written here.
            product: Shape (num_rows, units): overwritten.
        """
        units = self.units
        np.tanh(gates, out=gates)
        gates[:, : 3 * units] += 1
        memory *= gates[:, units : 2 * units]
        np.multiply(gates[:, :units], gates[:, 3 * units :], out=product)
        memory += product
        memory *= 0.5
        np.tanh(memory, out=state)
        state *= gates[:, 2 * units : 3 * units]


class DefaultForward:
    """The *default* network: vectors of words and pairs, evidence, convolution, an LSTM each way over a chunk, pooled over the review.

    Steps that see padding alone are not computed, as they are the same in every chunk: chunks stand in descending order of the steps
    that are, so that a step is of the first so many of them. All that a step reads lies side by side in one table: the forward LSTM's
    state before it, what the convolution found and a one for the bias, the backward LSTM's state before it.
    """

    def __init__(self, weights: Weights, settings: ForwardSettings, evidence_scale: float) -> None:
        use_one_blas_thread()
        self.words, self.pairs = weights[WORD_VECTORS], weights.get(PAIR_VECTORS)  # in steps
        kernel = weights["convolution/kernel"].copy()
        size, self.depth, self.filters = kernel.shape  # of the kernel, of what it reads, of what it gives
        kernel[:, : self.words.shape[1]] *= weights[STEPS][:, None]
        kernel[:, self.words.shape[1] :] *= evidence_scale
        self.stride, self.length = settings.stride, settings.chunk_length
        self.steps = self.length // self.stride
        self.before = max((self.steps - 1) * self.stride + size - self.length, 0) // 2  # zeros before a chunk, as Keras' "same" has them
        self.kernels = self._arranged(kernel, weights["convolution/bias"])
        names = ("lstm_cell/kernel", "lstm_cell/recurrent_kernel", "lstm_cell/bias")
        self.forward, self.backward = (
            Cell(*(weights[f"bidirectional/{way}_lstm/{name}"] for name in names)) for way in ("forward", "backward")
        )
        self.units = self.forward.units
        self._found = slice(self.units, self.units + self.filters)  # what the convolution found, in a row of the table
        self.weights_forward = np.concatenate([self.forward.recurrent, self.forward.kernel, self.forward.bias[None]])
        self.weights_backward = np.concatenate([self.backward.kernel, self.backward.bias[None], self.backward.recurrent])
        self.output, self.offset = weights["output/kernel"] / 2, weights["output/bias"]
        self._space = Workspace()
        self._padding = self._read_padding()

    def __call__(self, chunks: Chunks) -> np.ndarray:
        """Return the log-odds of positive, float32, shape (num_reviews,)."""
        holding = (chunks.words != 0).reshape(len(chunks.words), self.steps, self.stride).any(axis=2).sum(axis=1)  # steps with words
        order = np.argsort(-holding, kind="stable")
        most, steps = -holding[order], np.arange(self.steps)
        holds = np.searchsorted(most, -steps)  # chunks that hold a word at each step
        sees = np.searchsorted(most, -(-self.before // self.stride) - steps)  # and that see one there
        table = self._table(len(order))
        pooled = self._space.array("pooled", 2, 2, len(order), self.units)  # sums and maxima, forwards and backwards
        self._convolve(chunks, order, sees, table)
        self._read_forwards(holds, table, pooled[:, 0])
        self._read_backwards(holds, sees, table, pooled[:, 1])
        back = np.argsort(order)
        total, largest = pooled.swapaxes(1, 2)[:, back].reshape(2, len(order), -1)
        return self._pool(total, largest, holding, chunks.review, chunks.num_reviews)

    def _table(self, num_chunks: int) -> np.ndarray:
        """Return a table for what steps read, shape (steps + 2, num_chunks, units + filters + 1 + units); step s has row s + 1."""
        table = self._space.array("table", self.steps + 2, num_chunks, 2 * self.units + self.filters + 1)
        table[:, :, -self.units - 1] = 1
        return table

    def _arranged(self, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """Return the kernel stretch by stretch, each shape (numbers told, filters), in the order in which `_convolve` tells them."""
        vectors, evidence = np.split(kernel, [self.words.shape[1]], axis=1)
        parts = []
        for start in range(0, len(kernel), self.stride):
            of_evidence = np.zeros((self.stride, evidence.shape[1], self.filters), np.float32)
            seen = evidence[start : start + self.stride]
            of_evidence[: len(seen)] = seen
            rows = [np.zeros_like(bias) if start else bias, of_evidence, vectors[start : start + self.stride]]
            parts.append(np.concatenate([part.reshape(-1, self.filters) for part in rows]))
        return parts

    def _convolve(self, chunks: Chunks, order: np.ndarray, sees: np.ndarray, table: np.ndarray) -> None:
        """Write what the convolution finds at each step into the table, of the chunks that see a word there.

        Of a stretch is told, side by side: a one for the bias, the evidence of all its tokens, then the vectors of one after the other, so
        that a part of the kernel that sees the first few of them reads from the start.
        """
        parts, size = len(self.kernels), self.words.shape[1]
        first = 1 + self.stride * (self.depth - size)  # number of a stretch that is of a vector
        brought = chunks.evidence.astype(np.float32)  # at once: of rows a few numbers long it takes several times as long
        words, pairs, evidence = (self._stretches(values, order) for values in (chunks.words, chunks.pairs, brought))
        for number in range(self.steps + parts - 1):
            rows = sees[max(number - parts + 1, 0)]
            told = self._space.array("told", rows, first + self.stride * size)
            told[:, 0] = 1
            told[:, 1:first] = evidence[number, :rows].reshape(rows, first - 1)
            vectors = self._vectors("words", self.words, words[number, :rows])
            if self.pairs is not None:
                vectors += self._vectors("pairs", self.pairs, pairs[number, :rows])
            told[:, first:] = vectors
            beyond = self.before - number * self.stride  # tokens before the chunk: there nothing is brought, not even padding's vector
            told[:, first : first + max(beyond, 0) * size] = 0
            told[:, first + max(beyond + self.length, 0) * size :] = 0
            for part, kernel in enumerate(self.kernels):
                step = number - part
                if 0 <= step < self.steps:
                    found = table[step + 1, : sees[step], self._found]
                    seen = told[: sees[step], : len(kernel)]
                    if part:
                        found += np.matmul(seen, kernel, out=self._space.array("product", *found.shape))
                    else:
                        np.matmul(seen, kernel, out=found)
            step = number - parts + 1
            if step >= 0:
                found = table[step + 1, : sees[step], self._found]
                np.maximum(found, 0, out=found)

    def _stretches(self, values: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return what chunks hold, shape (num_chunks, chunk_length, …), by stretches: (stretches, num_chunks, stride, …), 0 beyond them."""
        stretches = self.steps + len(self.kernels) - 1
        wide = np.zeros((len(order), max(stretches * self.stride, self.before + self.length), *values.shape[2:]), values.dtype)
        wide[:, self.before : self.before + self.length] = values[order]
        return wide[:, : stretches * self.stride].reshape(len(order), stretches, self.stride, *values.shape[2:]).swapaxes(0, 1)

    def _vectors(self, name: str, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of ids, shape (num_rows, n), side by side: (num_rows, n * size)."""
        vectors = self._space.array(name, *ids.shape, table.shape[1], dtype=table.dtype)
        table.take(ids, axis=0, out=vectors, mode="clip")  # any other mode writes to an array of its own first
        return vectors.reshape(len(ids), ids.shape[1] * table.shape[1])

    def _arrays(self, num_chunks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return gates, memory and product of `Cell.step`."""
        memory, product = (self._space.array(name, num_chunks, self.units) for name in ("memory", "product"))
        return self._space.array("gates", num_chunks, 4 * self.units), memory, product

    def _read_forwards(self, holds: np.ndarray, table: np.ndarray, pooled: np.ndarray) -> None:
        """Write the forward LSTM's states, of the steps that hold words, into the table, and their sum and maximum into `pooled`."""
        gates, memory, product = self._arrays(table.shape[1])
        memory[:], table[1, :, : self.units], pooled[0], pooled[1] = 0, 0, 0, _LEAST
        for step, rows in enumerate(holds):
            state = table[step + 2, :rows, : self.units]
            np.matmul(table[step + 1, :rows, : -self.units], self.weights_forward, out=gates[:rows])
            self.forward.step(gates[:rows], memory[:rows], state, product[:rows])
            _pool_step(pooled, state)

    def _read_backwards(self, holds: np.ndarray, sees: np.ndarray, table: np.ndarray, pooled: np.ndarray) -> None:
        """Do so for the backward LSTM; a chunk joins with the state in which the padding behind its words leaves every chunk."""
        gates, memory, product = self._arrays(table.shape[1])
        pooled[0], pooled[1] = 0, _LEAST
        reading = 0
        for step in range(self.steps - 1, -1, -1):
            rows = sees[step]
            state = table[step, :rows, -self.units :]
            memory[reading:rows], table[step + 1, reading:rows, -self.units :] = self._padding[step + 1]
            reading = rows
            np.matmul(table[step + 1, :rows, self.units :], self.weights_backward, out=gates[:rows])
            self.backward.step(gates[:rows], memory[:rows], state, product[:rows])
            _pool_step(pooled, state[: holds[step]])

    def _read_padding(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return memory and state, each shape (units,), of the backward LSTM after padding from the end down to each step."""
        words = np.zeros((1, self.length), np.int32)
        evidence = np.zeros((1, self.length, self.depth - self.words.shape[1]), np.float16)
        padding = _Padding(words, words, evidence, np.zeros(1, np.int32), 1)
        table = self._table(1)
        self._convolve(padding, np.zeros(1, np.int64), np.ones(self.steps, np.int64), table)
        memory, state, product = (np.zeros((1, self.units), np.float32) for _ in range(3))
        found = [(memory[0].copy(), state[0].copy())]
        for step in range(self.steps - 1, -1, -1):
            table[step + 1, :, -self.units :] = state
            self.backward.step(table[step + 1, :, self.units :] @ self.weights_backward, memory, state, product)
            found.append((memory[0].copy(), state[0].copy()))
        return found[::-1]

    def _pool(self, total: np.ndarray, largest: np.ndarray, holding: np.ndarray, review: np.ndarray, num_reviews: int) -> np.ndarray:
        """Weigh the maximum and the mean over the steps of a review that hold words, given those of its chunks.

        Args:
            total: Shape (num_chunks, 2 * units): the sums of its steps' states.
            largest: The same of their maxima.
            holding: Shape (num_chunks,): steps of each chunk that hold words.
            review: Shape (num_chunks,), ascending.
            num_reviews: Reviews in all.
        """
        first = np.searchsorted(review, np.arange(num_reviews))
        count = np.add.reduceat(holding, first).astype(np.float32)[:, None]
        largest = np.where(count > 0, np.maximum.reduceat(largest, first), 0)
        mean = np.add.reduceat(total, first) / np.maximum(count, 1)
        return np.asarray((np.concatenate([largest, mean], axis=1) @ self.output + self.offset)[:, 0])


def _pool_step(pooled: np.ndarray, state: np.ndarray) -> None:
    """Take the states of a step, shape (num_rows, units), into the sums and maxima of all steps, shape (2, at least num_rows, units)."""
    total, largest = pooled[:, : len(state)]
    total += state
    np.maximum(largest, state, out=largest)


class TutorialForward:
    """The *tutorial* network: one LSTM over the last tokens of a review, padded before."""

    def __init__(self, weights: Weights, settings: ForwardSettings) -> None:
        use_one_blas_thread()
        self.length = settings.sequence_length
        cell = Cell(*(weights[f"tutorial/lstm/lstm_cell/{name}"] for name in ("kernel", "recurrent_kernel", "bias")))
        self.cell = cell
        self.brought = weights["tutorial/embedding/embeddings"] @ cell.kernel + cell.bias  # by word, (num_words, 4 * units)
        self.output, self.offset = weights["tutorial/output/kernel"] / 2, weights["tutorial/output/bias"]
        self._space = Workspace()
        self.padded = self._read_padding()

    def _read_padding(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return memory and state, each shape (1, units), after so many tokens of padding: it is before all short reviews."""
        memory, state, product = (np.zeros((1, self.cell.units), np.float32) for _ in range(3))
        found = [(memory.copy(), state.copy())]
        for _ in range(self.length):
            self.cell.step(state @ self.cell.recurrent + self.brought[:1], memory, state, product)
            found.append((memory.copy(), state.copy()))
        return found

    def __call__(self, words: np.ndarray) -> np.ndarray:
        """Return the log-odds of positive, float32, shape (num_reviews,).

        Args:
            words: int32, shape (num_reviews, sequence_length), padded before. A review is read from its first word on.
        """
        start = np.where((words != 0).any(axis=1), (words != 0).argmax(axis=1), self.length)
        order = np.argsort(start, kind="stable")
        words, start = np.ascontiguousarray(words[order].T), start[order]
        num_rows, units = len(order), self.cell.units
        memory, state, product = (self._space.array(name, num_rows, units) for name in ("memory", "state", "product"))
        gates, brought = (self._space.array(name, num_rows, 4 * units) for name in ("gates", "brought"))
        reading = 0
        for step in range(self.length + 1):
            joining = int(np.searchsorted(start, step, side="right"))
            memory[reading:joining], state[reading:joining] = self.padded[step]
            reading = joining
            if step < self.length and reading:
                np.matmul(state[:reading], self.cell.recurrent, out=gates[:reading])
                gates[:reading] += self.brought.take(words[step, :reading], axis=0, out=brought[:reading], mode="clip")
                self.cell.step(gates[:reading], memory[:reading], state[:reading], product[:reading])
        log_odds = np.empty(num_rows, np.float32)
        log_odds[order] = (state @ self.output + self.offset)[:, 0]
        return log_odds
