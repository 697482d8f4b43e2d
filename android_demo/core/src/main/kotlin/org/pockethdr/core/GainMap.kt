package org.pockethdr.core

import kotlin.math.log2

/**
 * What turns an SDR picture into the HDR one: stops to add at each pixel, as Ultra HDR stores them.
 *
 *     stops = log2((hdr + OFFSET) / (sdr + OFFSET)), from LEAST to MOST
 *     code = 255 · ((stops - LEAST) / (maxStops - LEAST)) ^ GAMMA
 *
 * of luminances, linear, 1.0 = SDR white ("Ultra HDR Image Format v1.1", section "Gain map"). Most of a
 * picture is a tenth of a stop away from its SDR version and a lamp may be six: even steps of stops
 * would leave three codes for the picture, the cube root leaves it seventy. Below zero the map takes
 * back what coding made too bright.
 */
class GainMap private constructor(val pixels: Pixels, val maxStops: Float) {
    companion object {
        const val OFFSET = 1 / 64f
        const val GAMMA = 1 / 3f
        const val LEAST = -0.05f

        // The 10 000 cd/m² where PQ ends, over the 203 of SDR white (ITU-R BT.2408): no display shows more.
        private val MOST = log2(10000 / 203f)

        // A display that adds less than this adds nothing; readers divide by it.
        private const val LEAST_MOST = 0.1f

        /** @param base decoded from its JPEG, so that the map also mends what coding lost. */
        fun of(toneMap: ToneMap, base: Pixels): GainMap {
            val stops = FloatArray(base.argb.size)
            forEachRow(base.height) { y ->
                for (x in 0 until base.width) {
                    val i = y * base.width + x
                    val gain = (toneMap.wanted(x, y) + OFFSET) / (Srgb.jpegLuminance(base.argb[i]) + OFFSET)
                    stops[i] = log2(gain).coerceIn(LEAST, MOST)
                }
            }
            return coded(base, stops)
        }

        private fun coded(base: Pixels, stops: FloatArray): GainMap {
            val most = maxOf(stops.max(), LEAST_MOST)
            val argb = IntArray(stops.size) {
                val share = (stops[it] - LEAST) / (most - LEAST)
                val code = Math.round(Math.cbrt(share.toDouble()) * 255).toInt()
                (255 shl 24) or (code shl 16) or (code shl 8) or code
            }
            return GainMap(Pixels(base.width, base.height, argb), most)
        }
    }

    /** The same map, turned with its picture. */
    fun upright(orientation: Int) = GainMap(upright(pixels, orientation), maxStops)
}
