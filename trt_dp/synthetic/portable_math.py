"""Normal and exponential numbers by IEEE arithmetic alone, so that every machine computes the same bits.

The logarithm, exponential and cosine of C libraries differ in their last bit; +, *, / and sqrt do not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

# The coefficients of Wichura's algorithm AS241 (1988): numerators and denominators, highest power first.
_CENTRE = (
    (
        2509.0809287301227,
        33430.57558358813,
        67265.7709270087,
        45921.95393154987,
        13731.69376550946,
        1971.5909503065513,
        133.14166789178438,
        3.3871328727963665,
    ),
    (
        5226.495278852854,
        28729.085735721943,
        39307.89580009271,
        21213.794301586597,
        5394.196021424751,
        687.1870074920579,
        42.31333070160091,
        1.0,
    ),
)
_TAIL = (
    (
        0.0007745450142783414,
        0.022723844989269184,
        0.2417807251774506,
        1.2704582524523684,
        3.6478483247632045,
        5.769497221460691,
        4.630337846156546,
        1.4234371107496835,
    ),
    (
        1.0507500716444169e-09,
        0.0005475938084995345,
        0.015198666563616457,
        0.14810397642748008,
        0.6897673349851,
        1.6763848301838038,
        2.053191626637759,
        1.0,
    ),
)
_FAR_TAIL = (
    (
        2.0103343992922881e-07,
        2.7115555687434876e-05,
        0.0012426609473880784,
        0.026532189526576124,
        0.29656057182850487,
        1.7848265399172913,
        5.463784911164114,
        6.657904643501103,
    ),
    (
        2.0442631033899397e-15,
        1.421511758316446e-07,
        1.8463183175100548e-05,
        0.0007868691311456133,
        0.014875361290850615,
        0.1369298809227358,
        0.599832206555888,
        1.0,
    ),
)
_LN2_HIGH = 0.6931471803691238  # the last 32 bits are zero: products with small integers are exact
_LN2_LOW = 1.9082149292705877e-10
_LOG_TERMS = tuple(1.0 / power for power in range(23, 0, -2))
_EXP_TERMS = tuple(1.0 / math.factorial(power) for power in range(17, -1, -1))


def normal(unit: Reals) -> Reals:
    """The standard normal quantiles of numbers strictly between 0 and 1."""
    side = unit - 0.5
    inner = 0.180625 - side * side
    tail = np.sqrt(-log(np.minimum(unit, 1.0 - unit)))
    outer = np.where(tail <= 5.0, _ratio(_TAIL, tail - 1.6), _ratio(_FAR_TAIL, tail - 5.0))
    found: Reals = np.where(
        np.abs(side) <= 0.425, side * _ratio(_CENTRE, inner), np.copysign(outer, side)
    )
    return found


def log(numbers: Reals) -> Reals:
    """The natural logarithm of positive numbers."""
    mantissa, power = np.frexp(numbers)
    low = mantissa < math.sqrt(0.5)
    mantissa, power = np.where(low, 2.0 * mantissa, mantissa), power - low
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    return power * _LN2_HIGH + (power * _LN2_LOW + 2.0 * ratio * _horner(_LOG_TERMS, ratio * ratio))


def exp(numbers: Reals) -> Reals:
    """The exponential of numbers, those beyond 600 either way taken as 600."""
    numbers = np.clip(numbers, -600.0, 600.0)
    power = np.rint(numbers / (_LN2_HIGH + _LN2_LOW))
    rest = (numbers - power * _LN2_HIGH) - power * _LN2_LOW
    found: Reals = np.ldexp(_horner(_EXP_TERMS, rest), power.astype(np.int64))
    return found


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], numbers: Reals) -> Reals:
    return _horner(coefficients[0], numbers) / _horner(coefficients[1], numbers)


def _horner(coefficients: tuple[float, ...], numbers: Reals) -> Reals:
    total = np.full_like(numbers, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= numbers
        total += coefficient
    return total
