"""The type of an array that may be on a device or on the host."""

import jax
import numpy as np

AnyArray = jax.Array | np.ndarray
