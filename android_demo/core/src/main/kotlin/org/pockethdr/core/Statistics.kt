package org.pockethdr.core

/** Of sorted values, linear between the closest ranks, as NumPy's default. */
internal fun percentile(sorted: List<Double>, percent: Double): Double {
    val rank = (sorted.size - 1) * percent / 100
    val below = rank.toInt()
    val above = minOf(below + 1, sorted.size - 1)
    return sorted[below] + (sorted[above] - sorted[below]) * (rank - below)
}

internal fun percentile(sorted: FloatArray, percent: Double): Float {
    val rank = (sorted.size - 1) * percent / 100
    val ends = listOf(rank.toInt(), minOf(rank.toInt() + 1, sorted.size - 1)).map { sorted[it].toDouble() }
    return percentile(ends, 100 * (rank - rank.toInt())).toFloat()
}
