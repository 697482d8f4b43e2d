package org.pockethdr.core

/** IEC 61966-2-1 between linear light and 8-bit codes, by table. */
internal object Srgb {
    // Fine enough that no step of the table is as wide as a twentieth of a code, even near black.
    private const val STEPS = 65535
    private val codes = ByteArray(STEPS + 1) { Math.round(encoded(it.toDouble() / STEPS) * 255).toByte() }
    private val linear = CameraResponse.SRGB.linear()

    /** The code of linear light, clipped to [0, 1]. */
    fun code(value: Float): Int = codes[(value.coerceIn(0f, 1f) * STEPS).toInt()].toInt() and 255

    fun luminance(argb: Int) =
        luminance(linear[argb shr 16 and 255], linear[argb shr 8 and 255], linear[argb and 255])

    private fun encoded(value: Double) =
        if (value <= 0.0031308) value * 12.92 else 1.055 * Math.pow(value, 1 / 2.4) - 0.055
}
