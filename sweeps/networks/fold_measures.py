"""What the flips of an activation pattern along a path say: space folding, and the patterns met.

With pi_1, pi_2, ... the patterns on the open pieces between the places where they change, and d_H Hamming's distance,
    r1 = max_i d_H(pi_1, pi_i),   r2 = sum_i d_H(pi_i, pi_{i+1}),   chi = 1 - r1/r2  (0 where r2 = 0).
Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural Networks", TMLR 2025.

Flips less than TOLERANCE of the path apart are one step, in which a neuron that flips twice does not flip. For a part
of the neurons everything is the same with the others left out. Patterns are told apart by 64-bit words: each neuron
has a fixed pseudo-random word, and a pattern's is the exclusive or of the words of the neurons that differ from the
first. Two of n patterns have the same word with probability n^2/2^65: 3e-12 for 10^4 patterns.
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled
from sweeps.networks.path_rows import TOLERANCE, sort_pairs

KINDS = 8
CHI, R1, R2, CHI_REVERSED, BREAKPOINTS, REGIONS, CHI_SAMPLED, CHI_SUBSET = range(KINDS)


@compiled
def measure_paths(
    walks, which, length, hidden, subset, samples, numbers, by_layer, to_layer, interaction, arcs, lengths
):
    """Fill numbers (..., KINDS), interaction (..., joins) and the others (..., layers) of the paths `which` (paths,)
    that were walked and are finite.

    Paths are `length` long, the hidden layers have `hidden` neurons, and `subset` (..., neurons) says which count for
    CHI_SUBSET. `samples` points 0, ..., `length`, equally spaced, give CHI_SAMPLED.
    """
    first, places, codes = in_order(walks.flips, len(which))
    for i in range(len(which)):
        if walks.finite[i]:
            p, some = which[i], (places[first[i] : first[i + 1]], codes[first[i] : first[i + 1]])
            where, neurons, step = steps(*some, TOLERANCE * length, subset.shape[1])
            _whole(neurons, step, subset, numbers, p)
            if samples > 1:
                numbers[p, CHI_SAMPLED] = _sampled(*some, length, samples, subset.shape[1])
            _layers(neurons, step, hidden, by_layer, to_layer, p)
            for layer in range(walks.arcs.shape[1]):
                arcs[p, layer], lengths[p, layer] = walks.arcs[i, layer], walks.lengths[i, layer]
            _joins(where, neurons, step, length, numbers[p, CHI], subset.shape[1], interaction, p)


@compiled
def in_order(flips, paths):
    """Where the flips of every path start (paths + 1,), and all places and codes in order of path and place."""
    first = np.zeros(paths + 1, np.int64)
    for i in range(flips.number):
        first[flips.paths[i] + 1] += 1
    for p in range(paths):
        first[p + 1] += first[p]
    filled, places, codes = first.copy(), np.empty(flips.number), np.empty(flips.number, np.int64)
    for i in range(flips.number):
        at = filled[flips.paths[i]]
        places[at], codes[at] = flips.places[i], flips.codes[i]
        filled[flips.paths[i]] += 1
    for p in range(paths):
        sort_pairs(places, codes, first[p], first[p + 1])
    return first, places, codes


@compiled
def _whole(neurons, step, subset, numbers, p):
    every, count = np.ones(subset.shape[1], np.bool_), len(step)
    chi, r1, r2 = ranges(neurons, step, np.int64(0), count, every)
    numbers[p, CHI], numbers[p, R1], numbers[p, R2] = chi, r1, r2
    numbers[p, CHI_REVERSED] = ranges(neurons, step, count, np.int64(0), every)[0]
    numbers[p, BREAKPOINTS] = step[count - 1] + 1 if count else 0
    numbers[p, REGIONS] = patterns(neurons, step)
    for j in range(len(every)):
        every[j] = subset[p, j]
    numbers[p, CHI_SUBSET] = ranges(neurons, step, np.int64(0), count, every)[0]


@compiled
def _layers(neurons, step, hidden, by_layer, to_layer, p):
    first, total = 0, hidden.sum()
    for layer in range(min(len(hidden), by_layer.shape[1])):
        keep = np.zeros(total, np.bool_)
        keep[first : first + hidden[layer]] = True
        by_layer[p, layer] = ranges(neurons, step, np.int64(0), len(step), keep)[0]
        first += hidden[layer]
        keep[:first] = True
        to_layer[p, layer] = ranges(neurons, step, np.int64(0), len(step), keep)[0]


@compiled
def _joins(where, neurons, step, length, chi, total, interaction, p):
    every, joins, before, behind = np.ones(total, np.bool_), interaction.shape[1], 0, 0
    for j in range(joins):
        cut = length * (j + 1) / (joins + 1)
        while before < len(where) and where[before] < cut - TOLERANCE * length:
            before += 1
        while behind < len(where) and where[behind] <= cut + TOLERANCE * length:
            behind += 1
        one = ranges(neurons, step, np.int64(0), before, every)[0]
        other = ranges(neurons, step, behind, len(step), every)[0]
        interaction[p, j] = abs(chi - one - other)


@compiled
def steps(places, codes, close, total):
    """The flips that change the pattern, given those of a path in order: places, neurons, and of which step each is."""
    groups = np.zeros(len(places), np.int64)
    for i in range(1, len(places)):
        groups[i] = groups[i - 1] + (places[i] - places[i - 1] > close)
    where, neurons, count = np.empty(len(places)), np.empty(len(places), np.int64), 0
    for i in odd(codes, groups, total):
        where[count], neurons[count], groups[count] = places[i], codes[i] // 2, groups[i]
        count += 1
    number, last = -1, -1
    for i in range(count):
        number += groups[i] != last
        last, groups[i] = groups[i], number
    return where[:count], neurons[:count], groups[:count]


@compiled
def odd(codes, groups, total):
    """Indices of flips of the neurons that flip an odd number of times in their group, one each."""
    kept, at = np.empty(len(codes), np.int64), 0
    differs = np.zeros(total, np.bool_)
    start = 0
    while start < len(codes):
        stop = start
        while stop < len(codes) and groups[stop] == groups[start]:
            differs[codes[stop] // 2] ^= True
            stop += 1
        for i in range(start, stop):
            if differs[codes[i] // 2]:
                differs[codes[i] // 2] = False
                kept[at] = i
                at += 1
        start = stop
    return kept[:at]


@compiled
def ranges(neurons, step, start, stop, keep):
    """(chi, r1, r2) of the neurons `keep` (neurons,) over the flips from `start` to `stop`, which may be less."""
    changed = np.zeros(len(keep), np.bool_)  # against the first pattern
    distance = r1 = r2 = 0
    onward = 1 if stop > start else -1
    i = start if stop > start else start - 1
    for k in range(abs(stop - start)):
        j = neurons[i]
        if keep[j]:
            changed[j] ^= True
            distance += 1 if changed[j] else -1
            r2 += 1
        if k == abs(stop - start) - 1 or step[i + onward] != step[i]:
            r1 = max(r1, distance)
        i += onward
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


@compiled
def _sampled(places, codes, length, samples, total):
    """chi of the patterns at the sample points, where a neuron that is 0 has the bit 0."""
    shown, sorted_codes = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    count = 0
    for i in range(len(places)):
        place = places[i] * (samples - 1) / length
        nearest = np.floor(place + 0.5)
        at = int(np.ceil(place))  # the first sample that shows the flip
        if abs(nearest - place) <= TOLERANCE * (samples - 1):
            at = int(nearest) + codes[i] % 2
        if (at > 0) & (at < samples):
            shown[count], sorted_codes[count] = at, codes[i]
            count += 1
    shown, sorted_codes = shown[:count], sorted_codes[:count]
    sort_pairs(shown, sorted_codes, np.int64(0), count)
    kept = odd(sorted_codes, shown, total)
    for i in range(len(kept)):
        shown[i], sorted_codes[i] = shown[kept[i]], sorted_codes[kept[i]] // 2
    return ranges(sorted_codes, shown, np.int64(0), len(kept), np.ones(total, np.bool_))[0]


@compiled
def patterns(neurons, step):
    """How many different patterns there are, the first among them."""
    words, at = np.zeros(len(neurons) + 1, np.int64), np.int64(0)
    for i in range(len(neurons)):
        if i == 0 or step[i] != step[i - 1]:
            at += 1
            words[at] = words[at - 1]
        words[at] ^= _word(neurons[i])
    sort_pairs(words, np.empty(at + 1, np.int64), np.int64(0), at + 1)
    different = 1
    for i in range(at):
        different += words[i + 1] != words[i]
    return different


@compiled
def _word(neuron):
    """The fixed word of a neuron: splitmix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    z = np.uint64(neuron + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))
