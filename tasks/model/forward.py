"""The networks' forward pass in NumPy: what scoring needs of them, without the seconds that TensorFlow takes to start.

The same arithmetic in another order of sums: tests hold it to the Keras networks of `tasks.model.lstm`. Every temporary array is kept
for the next call, as fresh memory costs more than the arithmetic on it.

Three rewritings save time. A convolution whose steps overlap is one matrix product over stretches of `stride` tokens, each with every
stretch of the kernel, and a sum of neighbours. A gate's sigmoid is (1 + tanh(x / 2)) / 2: one tanh serves all gates, the halves go into the
weights. A word of the *tutorial* network always brings the same input to its gates: the product is made once for each word.

Source: Hochreiter & Schmidhuber (1997).
"""

import math
import threading
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

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

    def array(self, name: str, *shape: int) -> np.ndarray:
        """Return a float32 array of this shape, whatever it holds."""
        size = math.prod(shape)
        held = self._arrays.get(name)
        if held is None or held.size < size:
            held = self._arrays[name] = np.zeros(size, np.float32)
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
    that are, so that a step is of the first so many of them.
    """

    def __init__(self, weights: Weights, settings: ForwardSettings, evidence_scale: float) -> None:
        use_one_blas_thread()
        self.words, self.pairs = weights["word_vectors/embeddings"], weights.get("pair_vectors/embeddings")
        kernel, self.shift = weights["convolution/kernel"].copy(), weights["convolution/bias"]
        size, self.depth, self.filters = kernel.shape  # of the kernel, of what it reads, of what it gives
        kernel[:, self.words.shape[1] :] *= evidence_scale
        self.stride, self.length = settings.stride, settings.chunk_length
        self.steps = self.length // self.stride
        self.before = max((self.steps - 1) * self.stride + size - self.length, 0) // 2  # zeros before a chunk, as Keras' "same" has them
        self.parts = -(-size // self.stride)
        whole = np.concatenate([kernel, np.zeros((self.parts * self.stride - size, self.depth, self.filters), np.float32)])
        parts = np.split(whole.reshape(-1, self.filters), self.parts)
        self.kernel = np.ascontiguousarray(np.concatenate(parts, axis=1))  # (stride * depth, parts * filters)
        names = ("lstm_cell/kernel", "lstm_cell/recurrent_kernel", "lstm_cell/bias")
        self.forward, self.backward = (
            Cell(*(weights[f"bidirectional/{way}_lstm/{name}"] for name in names)) for way in ("forward", "backward")
        )
        self.output, self.offset = weights["output/kernel"] / 2, weights["output/bias"]
        self._space = Workspace()
        self._padding = self._read_padding()

    def __call__(self, chunks: Chunks) -> np.ndarray:
        """Return the log-odds of positive, float32, shape (num_reviews,)."""
        inside = (chunks.words != 0).reshape(len(chunks.words), self.steps, self.stride).any(axis=2)
        seen = np.minimum(inside.sum(axis=1) + -(-self.before // self.stride), self.steps)  # steps that see a word of the chunk
        order = np.argsort(-seen, kind="stable")
        active = np.searchsorted(-seen[order], -np.arange(self.steps))  # chunks that see a word at each step
        found = self._convolve(chunks, order, active)
        states = self._space.array("states", 2, self.steps, len(order), self.forward.units)
        self._read_forwards(found, active, states[0])
        self._read_backwards(found, active, states[1])
        return self._pool(states, inside[order].T, order, chunks)

    def _convolve(self, chunks: Chunks, order: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Return what the LSTMs read, shape (sum of `active`, filters): step after step, of each the chunks that are active."""
        wanted = active[np.maximum(np.arange(self.steps + self.parts - 1) - (self.parts - 1), 0)]  # chunks whose stretch is needed
        starts = np.concatenate([[0], np.cumsum(wanted)])
        kept = np.arange(len(order)) < wanted[:, None]
        size = self.words.shape[1]
        told = self._space.array("told", starts[-1], self.stride, self.depth)
        vectors = self._vectors("words", self.words, self._stretches(chunks.words, order)[kept])
        if self.pairs is None:
            told[:, :, :size] = vectors
        else:
            np.add(vectors, self._vectors("pairs", self.pairs, self._stretches(chunks.pairs, order)[kept]), out=told[:, :, :size])
        if self.depth > size:
            told[:, :, size:] = self._stretches(chunks.evidence, order)[kept]
        for number, (start, stop) in enumerate(pairwise(starts)):  # beyond the chunk nothing is brought, not even padding's vector
            told[start:stop, : max(self.before - number * self.stride, 0)] = 0
            told[start:stop, max(self.before + self.length - number * self.stride, 0) :] = 0
        products = self._space.array("products", starts[-1], self.kernel.shape[1])
        np.matmul(told.reshape(starts[-1], self.stride * self.depth), self.kernel, out=products)
        found = self._space.array("found", active.sum(), self.filters)
        stop = 0
        for step, rows in enumerate(active):
            own = found[stop : stop + rows]
            np.add(products[starts[step] : starts[step] + rows, : self.filters], self.shift, out=own)
            for part in range(1, self.parts):
                start = starts[step + part]
                own += products[start : start + rows, part * self.filters : (part + 1) * self.filters]
            stop += rows
        return np.maximum(found, 0, out=found)

    def _stretches(self, values: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return what chunks hold, shape (num_chunks, chunk_length, …), by stretches: (stretches, num_chunks, stride, …), 0 beyond them."""
        stretches = self.steps + self.parts - 1
        wide = np.zeros((len(order), max(stretches * self.stride, self.before + self.length), *values.shape[2:]), values.dtype)
        wide[:, self.before : self.before + self.length] = values[order]
        return wide[:, : stretches * self.stride].reshape(len(order), stretches, self.stride, *values.shape[2:]).swapaxes(0, 1)

    def _vectors(self, name: str, table: np.ndarray, ids: np.ndarray) -> np.ndarray:
        vectors = self._space.array(name, *ids.shape, table.shape[1])
        return table.take(ids, axis=0, out=vectors, mode="clip")  # any other mode writes to an array of its own first

    def _brought(self, cell: Cell, found: np.ndarray) -> np.ndarray:
        brought = self._space.array("brought", len(found), 4 * cell.units)
        np.matmul(found, cell.kernel, out=brought)
        brought += cell.bias
        return brought

    def _arrays(self, num_chunks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return gates, memory, state and product of `Cell.step`."""
        units = self.forward.units
        memory, state, product = (self._space.array(name, num_chunks, units) for name in ("memory", "state", "product"))
        return self._space.array("gates", num_chunks, 4 * units), memory, state, product

    def _read_forwards(self, found: np.ndarray, active: np.ndarray, states: np.ndarray) -> None:
        """Write the states of the forward LSTM, shape (steps, num_chunks, units), but of steps that see padding alone."""
        brought = self._brought(self.forward, found)
        gates, memory, state, product = self._arrays(states.shape[1])
        memory[:], state[:] = 0, 0
        stop = 0
        for step, rows in enumerate(active):
            np.matmul(state[:rows], self.forward.recurrent, out=gates[:rows])
            gates[:rows] += brought[stop : stop + rows]
            self.forward.step(gates[:rows], memory[:rows], states[step, :rows], product[:rows])
            state, stop = states[step], stop + rows

    def _read_backwards(self, found: np.ndarray, active: np.ndarray, states: np.ndarray) -> None:
        """Write those of the backward LSTM; a chunk joins with the state in which the padding behind its words leaves every chunk."""
        brought = self._brought(self.backward, found)
        gates, memory, state, product = self._arrays(states.shape[1])
        start, reading = len(found), 0
        for step in range(self.steps - 1, -1, -1):
            rows = active[step]
            memory[reading:rows], state[reading:rows] = self._padding[step + 1]
            start, reading = start - rows, rows
            np.matmul(state[:rows], self.backward.recurrent, out=gates[:rows])
            gates[:rows] += brought[start : start + rows]
            self.backward.step(gates[:rows], memory[:rows], state[:rows], product[:rows])
            states[step, :rows] = state[:rows]

    def _read_padding(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return memory and state, each shape (units,), of the backward LSTM after padding from the end down to each step."""
        cell = self.backward
        words = np.zeros((1, self.length), np.int32)
        evidence = np.zeros((1, self.length, self.depth - self.words.shape[1]), np.float16)
        padding = _Padding(words, words, evidence, np.zeros(1, np.int32), 1)
        brought = self._brought(cell, self._convolve(padding, np.zeros(1, np.int64), np.ones(self.steps, np.int64)))
        memory, state, product = (np.zeros((1, cell.units), np.float32) for _ in range(3))
        found = [(memory[0].copy(), state[0].copy())]
        for step in range(self.steps - 1, -1, -1):
            cell.step(state @ cell.recurrent + brought[step : step + 1], memory, state, product)
            found.append((memory[0].copy(), state[0].copy()))
        return found[::-1]

    def _pool(self, states: np.ndarray, inside: np.ndarray, order: np.ndarray, chunks: Chunks) -> np.ndarray:
        """Take the maximum and the mean over the steps of a review that hold words, and weigh them."""
        by_step = states.transpose(1, 2, 0, 3)
        by_step[~inside] = 0
        total = by_step.sum(axis=0)
        by_step[~inside] = _LEAST
        back = np.argsort(order)
        total, largest, count = total[back], by_step.max(axis=0)[back], inside.sum(axis=0)[back].astype(np.float32)
        first = np.searchsorted(chunks.review, np.arange(chunks.num_reviews))
        total, largest, count = np.add.reduceat(total, first), np.maximum.reduceat(largest, first), np.add.reduceat(count, first)
        largest[count == 0] = 0
        mean = total / np.maximum(count, 1)[:, None, None]
        pooled = np.concatenate([largest.reshape(len(first), -1), mean.reshape(len(first), -1)], axis=1)
        return np.asarray((pooled @ self.output + self.offset)[:, 0])


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
