"""A seed that lies far from the others: a mean over few seeds may hang on one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from seqmem.core.digits import ten_digits
from seqmem.scoring.sign_flips import MIN_SEEDS_FOR_P

_LEVEL = 0.01


def outlying_seed(values: Mapping[int, float]) -> int | None:
    """Return the seed that lies farther off than normal values do in 99 of 100 rows; None without one.

    The test of Grubbs (1969), two-sided: G = max |x - mean| / s against
    (n - 1) / sqrt(n) sqrt(t^2 / (n - 2 + t^2)), t = t(1 - .01 / (2 n), n - 2). Nothing is left out for it: it is named,
    because the mean may hang on it. None below six seeds and without a spread.
    """
    n = len(values)
    found = np.array(list(values.values()), dtype=float)
    if n < MIN_SEEDS_FOR_P or np.ptp(found) <= 1e-12:
        return None
    away = np.abs(found - found.mean()) / found.std(ddof=1)
    t = stats.t.ppf(1 - _LEVEL / (2 * n), n - 2)
    critical = float((n - 1) / np.sqrt(n) * np.sqrt(t**2 / (n - 2 + t**2)))
    farthest = int(away.argmax())
    return list(values)[farthest] if ten_digits(float(away[farthest])) > critical else None
