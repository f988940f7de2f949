# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""The kernels themselves, as Triton reads them: no annotations but its own. Imported only where Triton is installed."""

import triton
import triton.language as tl


@triton.jit
def bags(start, index, weight, table, out, d, BLOCK: tl.constexpr):
    """out[r] = Σ weight · table[index] over entries start[r] to start[r + 1]; a program for each row and block of columns."""
    r = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    first = tl.load(start + r)
    last = tl.load(start + r + 1)
    total = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for e in range(first, last):
        found = tl.load(table + tl.load(index + e) * d + columns, mask=inside, other=0.0)
        total += tl.load(weight + e) * found
    tl.store(out + r * d + columns, total, mask=inside)


@triton.jit
def dots(row, index, left, table, out, d, BLOCK: tl.constexpr):
    """out[e] = left[row[e]] · table[index[e]]; a program for each entry."""
    e = tl.program_id(0)
    mine = left + tl.load(row + e) * d
    other = table + tl.load(index + e) * d
    total = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for first in range(0, d, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        inside = columns < d
        total += tl.load(mine + columns, mask=inside, other=0.0) * tl.load(other + columns, mask=inside, other=0.0)
    tl.store(out + e, tl.sum(total, axis=0))
