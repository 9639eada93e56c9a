"""Make sweeps/normal_table.txt, the coefficients behind `sweeps.randomness.normals`; run by hand.

Row 32 * octave + segment holds the four coefficients of |z| as a polynomial in t, lowest power first, as
hexadecimal bits of float32. It interpolates the exact quantile at the four Chebyshev nodes in float64, and is
then rounded. The table is part of the rule: another scipy may round a last bit otherwise, so a new table
needs a new `RULE` and checksum in sweeps/randomness.py. docs/randomness.md says how the table is used.

    python docs/make_normal_table.py > sweeps/normal_table.txt
"""

import numpy as np
from scipy.special import ndtri


def coefficients() -> np.ndarray:
    """Float32 (1024, 4)."""
    octave, segment = np.divmod(np.arange(1024)[:, None], 32)
    t = np.cos(np.pi * (np.arange(4) + 0.5) / 4)
    p = np.ldexp((32 + segment + (t + 1) / 2) / 64, -(octave + 1))  # (1024, 4), in (2**-33, 1/2)
    return np.linalg.solve(np.vander(t, increasing=True), -ndtri(p).T).T.astype("<f4")


if __name__ == "__main__":
    for row in coefficients().view("<u4"):
        print(*(f"{word:08x}" for word in row))
