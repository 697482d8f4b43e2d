package org.pockethdr.core

/** IEC 61966-2-1 between linear light and 8-bit codes, by table. */
internal object Srgb {
    // Fine enough that no step of the table is as wide as a twentieth of a code, even near black.
    private const val STEPS = 65535
    private val codes = ByteArray(STEPS + 1) { Math.round(encoded(it.toDouble() / STEPS) * 255).toByte() }
    private val linear = CameraResponse.SRGB.linear()

    /** The code of linear light, clipped to [0, 1]. */
    fun code(value: Float): Int = codes[(value.coerceIn(0f, 1f) * STEPS).toInt()].toInt() and 255

    /**
     * Luminance of a decoded pixel as its JPEG holds it.
     *
     * There luma and colour differences are whole numbers (JFIF 1.02). Decoders round the RGB that they
     * make of them, which is two percent of the light of a shadow; readers of gain maps need not.
     */
    fun jpegLuminance(argb: Int): Float {
        val red = argb shr 16 and 255
        val blue = argb and 255
        val luma = Math.round(0.299f * red + 0.587f * (argb shr 8 and 255) + 0.114f * blue)
        val cb = Math.round((blue - luma) / 1.772f)
        val cr = Math.round((red - luma) / 1.402f)
        return luminance(
            light(luma + 1.402f * cr),
            light(luma - 0.344136f * cb - 0.714136f * cr),
            light(luma + 1.772f * cb),
        )
    }

    /** Linear light of a code between codes. */
    private fun light(code: Float): Float {
        val inside = code.coerceIn(0f, 255f)
        val below = minOf(inside.toInt(), 254)
        return linear[below] + (linear[below + 1] - linear[below]) * (inside - below)
    }

    private fun encoded(value: Double) =
        if (value <= 0.0031308) value * 12.92 else 1.055 * Math.pow(value, 1 / 2.4) - 0.055
}
