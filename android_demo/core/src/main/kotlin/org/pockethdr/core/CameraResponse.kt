package org.pockethdr.core

/**
 * From 8-bit codes back to linear light in [0, 1], as `brackets/response.py` has it.
 *
 * The arithmetic follows the host's step by step, single precision but for powers, so that the network
 * sees the same bits here and there.
 */
class CameraResponse(private val table: FloatArray) {
    init {
        require(table.size == CODES) { "a response has $CODES values, not ${table.size}" }
    }

    /** The linear value of each of the 256 codes. */
    fun linear(): FloatArray = table.copyOf()

    companion object {
        private const val CODES = 256

        /** IEC 61966-2-1. */
        val SRGB = of { code -> if (code <= 0.04045f) code / 12.92f else power((code + 0.055f) / 1.055f, 2.4f) }

        /** The plain power of 2.2. */
        val GAMMA22 = of { code -> power(code, 2.2f) }

        /** The file already holds linear light. */
        val LINEAR = of { it }

        private fun of(curve: (Float) -> Float) = CameraResponse(FloatArray(CODES) { curve(it / 255f) })

        private fun power(base: Float, exponent: Float) =
            Math.pow(base.toDouble(), exponent.toDouble()).toFloat()
    }
}
