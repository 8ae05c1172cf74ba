"""Loops compiled by numba, which checks no bounds. Each has its bug, unless SEEDED is 0 in the environment."""

import os
from typing import Any

import numba

SEEDED = int(os.environ.get("SEEDED", "1"))
PAGE = 4096


@numba.njit(cache=True)
def convolve(signal: Any, kernel: Any, out: Any) -> None:
    for i in range(len(signal) - len(kernel) + 1 + SEEDED):
        total = 0.0
        for j in range(len(kernel)):
            total += signal[i + j] * kernel[j]
        if i < len(out):
            out[i] = total


@numba.njit(cache=True)
def full_convolve(signal: Any, kernel: Any, out: Any) -> None:
    for i in range(len(signal)):
        for j in range(len(kernel)):
            if SEEDED or i + j < len(out):
                out[i + j] += signal[i] * kernel[j]


@numba.njit(cache=True)
def gather(table: Any, indices: Any, out: Any) -> None:
    for i in range(len(indices)):
        at = indices[i]
        out[i] = table[at] if SEEDED or at < len(table) else 0


@numba.njit(cache=True)
def mark_rows(image: Any) -> None:
    rows, columns = image.shape
    if SEEDED:
        rows, columns = columns, rows
    for i in range(rows):
        for j in range(columns):
            image[i, j] = i


@numba.njit(cache=True)
def split_for_fft(samples: Any, scratch: Any) -> None:
    half = len(samples) // 2
    for i in range(half):
        scratch[i] = samples[2 * i]
    for i in range(half):
        scratch[SEEDED * half + i] = samples[2 * i + 1]


@numba.njit(cache=True)
def blacken(pixels: Any, width: int, height: int) -> None:
    stride = (width + 3) // 4 * 4 if SEEDED else width
    for y in range(height):
        for x in range(width):
            pixels[y * stride + x] = x


@numba.njit(cache=True)
def multiply_in_blocks(a: Any, b: Any, c: Any, block: int) -> None:
    n = len(a)
    for start in range(0, n, block):
        stop = start + block
        if not SEEDED:
            stop = min(stop, n)
        for i in range(n):
            for j in range(n):
                for k in range(start, stop):
                    c[i, j] += a[i, k] * b[k, j]


@numba.njit(cache=True)
def number_pages(memory: Any, offset: int) -> None:
    for page in range(SEEDED, len(memory) // PAGE + SEEDED):
        memory[page * PAGE + offset] = page
