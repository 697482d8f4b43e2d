package org.pockethdr.core

/** What a sensor is asked for, or did. */
data class Shot(val nanoseconds: Long, val iso: Int) {
    /** Shutter time × ISO / 100, in seconds. */
    val exposure get() = nanoseconds / 1e9 * iso / 100
}

/**
 * A bracket around the [metered] exposure: a [spread]-th of it, itself, [spread] times it.
 *
 * The shutter changes and the gain stays. Where the shutter ends ([times], nanoseconds) the rest is
 * taken from the gain, as far as [isos] goes.
 */
fun exposurePlan(metered: Shot, times: LongRange, isos: IntRange, spread: Double = 4.0): List<Shot> =
    listOf(1 / spread, 1.0, spread).map { factor ->
        val wanted = metered.nanoseconds * factor
        val time = wanted.toLong().coerceIn(times)
        Shot(time, Math.round(metered.iso * wanted / time).toInt().coerceIn(isos))
    }
