"""Draws a second of sweeps.networks.depth on one core: n = 2..9 at alpha = 6.7, and growth with m at n = 6.

    python benchmarks/injectivity_growth.py

CPU time, the best of three rounds; `count` is min_active, `injective` and `not` are the decision on the draws where
the answer is yes and no, `orthant` is min_active on the positive orthant.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from sweeps.networks.depth import injective, min_active

DRAWS = {2: 20_000, 3: 5000, 4: 500, 5: 200, 6: 50, 7: 10, 8: 2, 9: 1}
ALPHA = 6.7
ROUNDS = 3


def draws_per_second(function: Callable[..., np.ndarray], W: np.ndarray, **options: bool) -> str:
    if not len(W):
        return "-"
    best = np.inf
    for _ in range(ROUNDS if W.shape[2] < 9 else 1):
        start = time.process_time()
        function(W, **options)
        best = min(best, time.process_time() - start)
    return f"{len(W) / best:.3g}"


def row(n: int, m: int) -> str:
    W = np.random.default_rng(n).standard_normal((DRAWS[n], m, n))
    yes = injective(W)
    cells = (
        f"({n}, {m})",
        draws_per_second(min_active, W),
        draws_per_second(injective, W[yes]),
        draws_per_second(injective, W[~yes]),
        draws_per_second(min_active, W, orthant=True),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    min_active(np.random.default_rng(0).standard_normal((1, 12, 5)))  # compile
    print("| (n, m) | count | injective | not | orthant |")
    print("|---|---|---|---|---|")
    sizes = [(n, int(ALPHA * n + 0.5)) for n in DRAWS]
    for n, m in [*((6, 6 * alpha) for alpha in range(4, 11)), *sizes]:
        print(row(n, m), flush=True)


if __name__ == "__main__":
    main()
