package org.pockethdr.core

/** What a photograph says of its exposure: null where it does not. */
data class Settings(val seconds: Double?, val iso: Double?, val fNumber: Double?)

/**
 * The relative exposure of each photograph, by the rule of `brackets/burst.py`: time × ISO / f-number², and
 * time alone where that gain did not change or one of them does not say its ISO. NaN where there is no time. An
 * aperture that one of them does not say counts for none.
 */
fun exposures(photographs: List<Settings>): List<Double> {
    val said = photographs.all { it.fNumber != null }
    val gains = photographs.map { gain(it.iso ?: 0.0, if (said) it.fNumber!! else 1.0) }
    val changed = gains.all { it > 0 } && gains.max() > LEAST_CHANGE * gains.min()
    return photographs.zip(gains) { photograph, gain -> (photograph.seconds ?: Double.NaN) * if (changed) gain else 1.0 }
}

/** 0 where EXIF holds no ISO or nonsense. */
private fun gain(iso: Double, fNumber: Double): Double =
    if (iso >= 1 && iso < 1e7 && fNumber > 0.1 && fNumber < 100) iso / (fNumber * fNumber) else 0.0

private const val LEAST_CHANGE = 1.02
