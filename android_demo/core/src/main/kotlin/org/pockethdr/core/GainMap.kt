package org.pockethdr.core

import kotlin.math.log2

/**
 * What turns an SDR picture into the HDR one: stops to add at each pixel, as Ultra HDR stores them.
 *
 *     stops = log2((hdr + OFFSET) / (sdr + OFFSET)), from 0 to MOST_STOPS
 *     code = 255 · (stops / maxStops) ^ GAMMA
 *
 * of luminances, linear, 1.0 = SDR white ("Ultra HDR Image Format v1.1", section "Gain map"). Most of a
 * picture is a tenth of a stop away from its SDR version and a lamp may be six: even steps of stops
 * would leave three codes for the picture, the cube root leaves it seventy.
 *
 * `runtime/gainmap.py` begins 0.05 stops below zero; here that was tried and measured worse
 * (docs/decisions/012-gain-map.md).
 */
class GainMap private constructor(val pixels: Pixels, val maxStops: Float) {
    companion object {
        const val OFFSET = 1 / 64f
        const val GAMMA = 1 / 3f

        // The 10 000 cd/m² where PQ ends, over the 203 of SDR white (ITU-R BT.2408): no display shows more.
        private val MOST_STOPS = log2(10000 / 203f)

        // A display that adds less than this adds nothing; readers divide by it.
        private const val LEAST_STOPS = 0.1f

        /**
         * @param brightness what linear light is multiplied by to be seen beside the [base].
         * @param base decoded from its JPEG, so that the map also mends what coding lost.
         */
        fun of(image: HdrImage, base: Pixels, brightness: Float): GainMap {
            val stops = FloatArray(base.argb.size)
            forEachRow(base.height) { y ->
                for (i in y * base.width until (y + 1) * base.width) {
                    val light = maxOf(image.luminance(i) * brightness, 0f)
                    val gain = (light + OFFSET) / (Srgb.jpegLuminance(base.argb[i]) + OFFSET)
                    stops[i] = log2(gain).coerceIn(0f, MOST_STOPS)
                }
            }
            return coded(base, stops)
        }

        private fun coded(base: Pixels, stops: FloatArray): GainMap {
            val most = maxOf(stops.max(), LEAST_STOPS)
            val argb = IntArray(stops.size) {
                val code = Math.round(Math.cbrt((stops[it] / most).toDouble()) * 255).toInt()
                (255 shl 24) or (code shl 16) or (code shl 8) or code
            }
            return GainMap(Pixels(base.width, base.height, argb), most)
        }
    }

    /** The same map, turned with its picture. */
    fun upright(orientation: Int) = GainMap(upright(pixels, orientation), maxStops)
}
